"""Checks the requests, responses and events of a ChatKit server with the types of `openai-chatkit`.

Each line of the file in the argument is one of `{"request": ...}`, `{"response": type, "body": ...}` and `{"event": ...}`.
Each value is parsed, and serialized as the reference server does it. The result must equal the input: no required member is
missing, and no member is null.
"""

import json
import sys
from collections import Counter
from datetime import datetime, timedelta

from chatkit.types import ChatKitReq, Page, Thread, ThreadItem, ThreadStreamEvent
from pydantic import TypeAdapter

REQUEST = TypeAdapter(ChatKitReq)
EVENT = TypeAdapter(ThreadStreamEvent)
RESPONSES = {
    "threads.get_by_id": TypeAdapter(Thread),
    "threads.update": TypeAdapter(Thread),
    "threads.list": TypeAdapter(Page[Thread]),
    "items.list": TypeAdapter(Page[ThreadItem]),
}
NOTHING = ("threads.delete", "items.feedback")


def times(value):
    """Yields all times in a value."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "created_at":
                yield member
            else:
                yield from times(member)
    elif isinstance(value, list):
        for member in value:
            yield from times(member)


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(member) for name, member in value.items() if name != "created_at"}
    if isinstance(value, list):
        return [without_times(member) for member in value]
    return value


def check(adapter, value):
    parsed = adapter.validate_json(json.dumps(value))
    written = json.loads(adapter.dump_json(parsed, by_alias=True, exclude_none=True, context={"exclude_metadata": True}))
    assert without_times(written) == without_times(value), f"expected {written}\ngot {value}"
    for time in times(value):
        assert time.endswith("Z") and datetime.fromisoformat(time).utcoffset() == timedelta(0), time


def main():
    seen = Counter()
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if "request" in entry:
                REQUEST.validate_json(json.dumps(entry["request"]))
                seen[f"request {entry['request']['type']}"] += 1
            elif "event" in entry:
                check(EVENT, entry["event"])
                event = entry["event"]
                seen[f"event {event.get('update', event)['type']}"] += 1
                if "item" in event:
                    seen[f"item {event['item']['type']}"] += 1
            elif entry["response"] in NOTHING:
                assert entry["body"] == {}, entry
                seen[f"response {entry['response']}"] += 1
            else:
                check(RESPONSES[entry["response"]], entry["body"])
                seen[f"response {entry['response']}"] += 1
    print(json.dumps(seen))


main()
