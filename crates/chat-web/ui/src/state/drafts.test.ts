import { beforeEach, expect, test, vi } from "vitest";

beforeEach(() => {
	localStorage.clear();
	vi.resetModules();
});

/** The module as a page has it that was just loaded. */
const load = () => import("./drafts");

test("a draft outlives the page, with its key", async () => {
	const draft = (await load()).keepDraft("c", "Hello");
	vi.resetModules();
	const { draftOf, keepDraft } = await load();
	expect(draftOf("c")).toEqual(draft);
	expect(keepDraft("c", "Hello").key).toBe(draft.key);
	expect(keepDraft("c", "Hello!").key).not.toBe(draft.key);
	expect(draftOf("other")).toBeNull();
});

test("what is on its way is kept until it is acknowledged", async () => {
	const { acknowledged, draftOf, keepDraft, outboxOf, toOutbox } = await load();
	const draft = keepDraft(null, "Hello");
	toOutbox(null, draft);
	expect([draftOf(null), outboxOf(null)]).toEqual([null, draft]);
	vi.resetModules();
	expect((await load()).outboxOf(null)).toEqual(draft);
	acknowledged(null);
	expect(outboxOf(null)).toBeNull();
	expect(localStorage.length).toBe(0);
});

test("what could not be sent is a draft again, before what was written since", async () => {
	const { draftOf, giveBack, keepDraft, toOutbox } = await load();
	const first = keepDraft("c", "First");
	toOutbox("c", first);
	giveBack("c");
	expect(draftOf("c")).toEqual(first);
	toOutbox("c", first);
	keepDraft("c", "Second");
	giveBack("c");
	expect(draftOf("c")?.text).toBe("First\n\nSecond");
	expect(draftOf("c")?.key).not.toBe(first.key);
});

test("what was written for a new conversation goes on in what that has become", async () => {
	const { begunAs, draftOf, keepDraft } = await load();
	begunAs("a");
	expect(draftOf("a")).toBeNull();
	const draft = keepDraft(null, "Next");
	begunAs("c");
	expect([draftOf(null), draftOf("c")]).toEqual([null, draft]);
});

test("storage that others wrote into is no draft", async () => {
	const { draftOf } = await load();
	for (const text of ["", "nonsense", "7", "null", '{"text":1}']) {
		localStorage.setItem("chat.draft..c", text);
		expect(draftOf("c")).toBeNull();
	}
});

/** Another tab of the browser. */
const otherTab = () => {
	dispatchEvent(new Event("pagehide"));
	sessionStorage.clear();
	vi.resetModules();
	return load();
};

test("each tab has its own draft of a new conversation; what a closed tab left goes to the next", async () => {
	const first = await load();
	first.keepDraft(null, "From the first");
	// Both are open: neither says goodbye.
	sessionStorage.clear();
	vi.resetModules();
	const second = await load();
	second.adopt();
	expect(second.draftOf(null)).toBeNull();
	second.keepDraft(null, "From the second");
	expect(first.draftOf(null)?.text).toBe("From the first");
	const third = await otherTab();
	third.adopt();
	expect(third.draftOf(null)?.text).toMatch(/^From the /);
});

test("a message that a closed tab had on its way is sent by the next", async () => {
	const first = await load();
	const draft = first.keepDraft(null, "On its way");
	first.toOutbox(null, draft);
	const next = await otherTab();
	next.adopt();
	expect(next.outboxOf(null)).toEqual(draft);
});

test("a draft that another tab changed follows; what both changed is kept", async () => {
	const { draftOf, draftsFromElsewhere, keepDraft } = await load();
	const hear = (text: string | null) =>
		dispatchEvent(
			new StorageEvent("storage", {
				key: "chat.draft..c",
				newValue: text && JSON.stringify({ text, key: "k" }),
			}),
		);
	hear("one");
	expect(draftOf("c")?.text).toBe("one");
	hear("one two");
	expect(draftOf("c")?.text).toBe("one two");
	expect(draftsFromElsewhere.value).toBe(2);
	hear(null);
	expect(draftOf("c")).toBeNull();
	keepDraft("c", "mine");
	hear("mine, and theirs");
	expect(draftOf("c")?.text).toBe("mine, and theirs");
});
