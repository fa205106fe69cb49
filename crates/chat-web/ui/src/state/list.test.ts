import { beforeEach, expect, test, vi } from "vitest";
import { api } from "../api/client";
import type { Conversation, ConversationList } from "../api/types";
import { conversations, hasMore, loadList, loadMore, loadRest, refreshList } from "./list";

/** What the server has, the last active first. */
let held: Conversation[] = [];

const numbered = (from: number, to: number) =>
	Array.from({ length: to - from }, (_, at): Conversation => {
		const time = new Date(Date.UTC(2026, 0, 1) - (from + at) * 60_000).toISOString();
		return {
			id: `c${from + at}`,
			title: `Conversation ${from + at}`,
			created_at: time,
			updated_at: time,
		};
	});
const ids = (list: Conversation[]) => list.map(({ id }) => id);

/** As the server does. */
async function page(limit: number, after?: string): Promise<ConversationList> {
	const from = after === undefined ? 0 : held.findIndex(({ id }) => id === after) + 1;
	const found = held.slice(from, from + limit);
	const next = from + limit < held.length ? found.at(-1)?.id : undefined;
	return { conversations: found, ...(next && { next_cursor: next }) };
}

beforeEach(async () => {
	held = numbered(0, 250);
	vi.spyOn(api, "conversations").mockImplementation(page);
	await loadList();
});

test("a list is read to its end", async () => {
	expect(conversations.value).toHaveLength(100);
	await loadRest();
	expect(ids(conversations.value)).toEqual(ids(held));
	expect(hasMore.value).toBe(false);
});

test("a list that is read again while more of it comes has no gap", async () => {
	await loadMore();
	let answer = () => {};
	const late = new Promise<void>((resolve) => {
		answer = resolve;
	});
	vi.mocked(api.conversations).mockImplementationOnce(async (limit, after) => {
		await late;
		return page(limit, after);
	});
	const more = loadMore();
	await loadList();
	answer();
	await more;
	expect(ids(conversations.value)).toEqual(ids(held).slice(0, 100));
	await loadRest();
	expect(ids(conversations.value)).toEqual(ids(held));
});

test("what changed meanwhile comes first, and what was deleted goes", async () => {
	const [begun] = numbered(-1, 0);
	held = [begun!, ...held.filter(({ id }) => id !== "c3")];
	expect(ids(await refreshList())).toEqual(["c-1"]);
	expect(ids(conversations.value).slice(0, 5)).toEqual(["c-1", "c0", "c1", "c2", "c4"]);
});

test("a list of which much changed meanwhile is read again", async () => {
	held = [...numbered(-45, 0), ...held];
	await refreshList();
	expect(ids(conversations.value)).toEqual(ids(held).slice(0, 100));
});
