import { beforeEach, expect, test } from "vitest";
import { draftStore, MemoryStorage } from "./testing";

let storage: MemoryStorage;

beforeEach(() => {
	storage = new MemoryStorage();
});

test("a draft and its key outlive the page", () => {
	const draft = draftStore(storage).save("c", "Hello");
	const reloaded = draftStore(storage);
	expect(reloaded.draftOf("c")).toEqual(draft);
	expect(reloaded.save("c", "Hello").key).toBe(draft.key);
	expect(reloaded.save("c", "Hello!").key).not.toBe(draft.key);
	expect(reloaded.draftOf("other")).toBeNull();
});

test("a message stays in the outbox until it is acknowledged", () => {
	const drafts = draftStore(storage);
	const draft = drafts.save(null, "Hello");
	drafts.moveToOutbox(null, draft);
	expect([drafts.draftOf(null), drafts.outboxOf(null)]).toEqual([null, draft]);
	expect(draftStore(storage).outboxOf(null)).toEqual(draft);
	drafts.acknowledge(null);
	expect(drafts.outboxOf(null)).toBeNull();
	expect(storage.keys()).toEqual([]);
});

test("an unsent message becomes a draft before the text written since", () => {
	const drafts = draftStore(storage);
	const first = drafts.save("c", "First");
	drafts.moveToOutbox("c", first);
	drafts.restore("c");
	expect(drafts.draftOf("c")).toEqual(first);
	drafts.moveToOutbox("c", first);
	drafts.save("c", "Second");
	drafts.restore("c");
	expect(drafts.draftOf("c")?.text).toBe("First\n\nSecond");
	expect(drafts.draftOf("c")?.key).not.toBe(first.key);
	expect(drafts.revision.value).toBe(2);
});

test("the draft of a new conversation moves to the conversation that it has become", () => {
	const drafts = draftStore(storage);
	drafts.assignNewDraft("a");
	expect(drafts.draftOf("a")).toBeNull();
	const draft = drafts.save(null, "Next");
	drafts.assignNewDraft("c");
	expect([drafts.draftOf(null), drafts.draftOf("c")]).toEqual([null, draft]);
});

test("foreign values in the storage are ignored", () => {
	const drafts = draftStore(storage);
	for (const text of ["", "nonsense", "7", "null", '{"text":1}']) {
		storage.set("chat.draft.ann.c", text);
		expect(drafts.draftOf("c")).toBeNull();
	}
});

test("each tab has its own draft of a new conversation; a closed tab's draft is adopted", () => {
	const [first, second] = [draftStore(storage, "tab-1"), draftStore(storage, "tab-2")];
	first.save(null, "From the first");
	second.adopt();
	expect(second.draftOf(null)).toBeNull();
	second.save(null, "From the second");
	expect(first.draftOf(null)?.text).toBe("From the first");
	second.markLeft();
	const third = draftStore(storage, "tab-3");
	third.adopt();
	expect(third.draftOf(null)?.text).toBe("From the second");
});

test("a tab that the browser restores keeps its draft", () => {
	const first = draftStore(storage, "tab-1");
	first.save(null, "Mine");
	first.markLeft();
	first.unmarkLeft();
	const second = draftStore(storage, "tab-2");
	second.adopt();
	expect(second.draftOf(null)).toBeNull();
});

test("the outbox of a closed tab is adopted", () => {
	const first = draftStore(storage, "tab-1");
	const draft = first.save(null, "On its way");
	first.moveToOutbox(null, draft);
	first.markLeft();
	const second = draftStore(storage, "tab-2");
	second.adopt();
	expect(second.outboxOf(null)).toEqual(draft);
});

test("a duplicated tab copies the draft, and sending one copy removes the other", () => {
	const original = draftStore(storage, "tab-1");
	const draft = original.save(null, "Hello");
	const duplicate = draftStore(storage, "tab-2", "tab-1");
	expect(duplicate.draftOf(null)).toEqual(draft);
	duplicate.moveToOutbox(null, draft);
	duplicate.acknowledge(null);
	expect(storage.keys()).toEqual([]);
});

test("a draft follows changes by another tab; concurrent changes are merged", () => {
	const drafts = draftStore(storage);
	const receive = (text: string | null) =>
		drafts.receiveChange("chat.draft.ann.c", text && JSON.stringify({ text, key: "k" }));
	receive("one");
	expect(drafts.draftOf("c")?.text).toBe("one");
	receive("one two");
	expect(drafts.draftOf("c")?.text).toBe("one two");
	expect(drafts.revision.value).toBe(2);
	receive(null);
	expect(drafts.draftOf("c")).toBeNull();
	drafts.save("c", "mine");
	receive("mine, and theirs");
	expect(drafts.draftOf("c")?.text).toBe("mine, and theirs");
});
