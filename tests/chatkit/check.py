"""Reads what a server and a ChatKit front end said to each other, and holds it against the types of `openai-chatkit`.

Each line of the file named by the argument is one of `{"request": ...}`, `{"response": type, "body": ...}` and `{"event": ...}`.
What is parsed is written again as the reference server would write it, and must be what was read: nothing is missing that is
always sent, and nothing is null.
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
    """All times in a value, as they were written."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "created_at":
                yield member
            else:
                yield from times(member)
    elif isinstance(value, list):
        for entry in value:
            yield from times(entry)


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(member) for name, member in value.items() if name != "created_at"}
    if isinstance(value, list):
        return [without_times(entry) for entry in value]
    return value


def hold(adapter, said):
    parsed = adapter.validate_json(json.dumps(said))
    written = json.loads(adapter.dump_json(parsed, by_alias=True, exclude_none=True, context={"exclude_metadata": True}))
    assert without_times(written) == without_times(said), f"the reference server would write {written}\nwhere ours wrote {said}"
    for time in times(said):
        assert time.endswith("Z") and datetime.fromisoformat(time).utcoffset() == timedelta(0), time


def main():
    seen = Counter()
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            said = json.loads(line)
            if "request" in said:
                REQUEST.validate_json(json.dumps(said["request"]))
                seen[f"request {said['request']['type']}"] += 1
            elif "event" in said:
                hold(EVENT, said["event"])
                event = said["event"]
                seen[f"event {event.get('update', event)['type']}"] += 1
                if "item" in event:
                    seen[f"item {event['item']['type']}"] += 1
            elif said["response"] in NOTHING:
                assert said["body"] == {}, said
                seen[f"response {said['response']}"] += 1
            else:
                hold(RESPONSES[said["response"]], said["body"])
                seen[f"response {said['response']}"] += 1
    print(json.dumps(seen))


main()
