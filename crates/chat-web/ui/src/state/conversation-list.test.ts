import { beforeEach, expect, test, vi } from "vitest";
import { ApiError, unreachable } from "../api/client";
import type { Conversation, ConversationList as Page } from "../api/types";
import { ConversationList } from "./conversation-list";
import type { NoticeOptions } from "./notices";
import { deferred } from "./testing";

/** The conversations on the server, the last active first. */
let stored: Conversation[] = [];
let list: ConversationList;
const notify = vi.fn<(text: string, options?: NoticeOptions) => void>();
const publish = vi.fn();
const api = {
	conversations: vi.fn(page),
	rename: vi.fn(async (id: string, title: string) => ({ ...stored[0]!, id, title })),
	delete: vi.fn(async (_: string) => {}),
};

const numbered = (from: number, to: number) =>
	Array.from({ length: to - from }, (_, index): Conversation => {
		const time = new Date(Date.UTC(2026, 0, 1) - (from + index) * 60_000).toISOString();
		return {
			id: `c${from + index}`,
			title: `Conversation ${from + index}`,
			created_at: time,
			updated_at: time,
		};
	});
const ids = (conversations: readonly Conversation[]) => conversations.map(({ id }) => id);

async function page(limit: number, after?: string): Promise<Page> {
	const from = after === undefined ? 0 : stored.findIndex(({ id }) => id === after) + 1;
	const found = stored.slice(from, from + limit);
	const next = from + limit < stored.length ? found.at(-1)?.id : undefined;
	return { conversations: found, ...(next && { next_cursor: next }) };
}

beforeEach(async () => {
	vi.clearAllMocks();
	vi.useFakeTimers();
	api.conversations.mockImplementation(page);
	stored = numbered(0, 250);
	list = new ConversationList({ api, notify, publish });
	await list.load();
});

test("the whole list can be read", async () => {
	expect(list.conversations.value).toHaveLength(100);
	await list.loadAll();
	expect(ids(list.conversations.value)).toEqual(ids(stored));
	expect(list.hasMore.value).toBe(false);
});

test("a page that was requested before a reload is discarded", async () => {
	await list.loadMore();
	const late = deferred<void>();
	api.conversations.mockImplementationOnce(async (limit, after) => {
		await late.promise;
		return page(limit, after);
	});
	const more = list.loadMore();
	await list.load();
	late.resolve();
	await more;
	expect(ids(list.conversations.value)).toEqual(ids(stored).slice(0, 100));
	await list.loadAll();
	expect(ids(list.conversations.value)).toEqual(ids(stored));
});

test("a refresh adds new conversations and removes deleted ones", async () => {
	const [added] = numbered(-1, 0);
	stored = [added!, ...stored.filter(({ id }) => id !== "c3")];
	expect(ids(await list.refresh())).toEqual(["c-1"]);
	expect(ids(list.conversations.value).slice(0, 5)).toEqual(["c-1", "c0", "c1", "c2", "c4"]);
});

test("a refresh that finds a whole page of changes reloads the list", async () => {
	stored = [...numbered(-45, 0), ...stored];
	await list.refresh();
	expect(ids(list.conversations.value)).toEqual(ids(stored).slice(0, 100));
});

test("a failed load is reported until a load succeeds", async () => {
	api.conversations.mockRejectedValueOnce(new ApiError(unreachable("Not reachable.")));
	await list.load();
	expect(list.trouble.value).toBe("Not reachable.");
	await list.load();
	expect(list.trouble.value).toBeNull();
});

test("a rename is shown at once and reverted when the server rejects it", async () => {
	api.rename.mockRejectedValueOnce(new ApiError(unreachable("Not reachable.")));
	const renamed = list.rename("c0", " New title ");
	expect(list.find("c0")?.title).toBe("New title");
	await renamed;
	expect(list.find("c0")?.title).toBe("Conversation 0");
	expect(notify).toHaveBeenCalledWith("Not renamed. Not reachable.", { tone: "error" });
	await list.rename("c0", "New title");
	expect(publish).toHaveBeenCalledWith({ kind: "changed", conversation: "c0" });
});

test("a deletion can be undone before it reaches the server", async () => {
	const onUndo = vi.fn();
	list.delete("c0", onUndo);
	expect(ids(list.visible.value)).not.toContain("c0");
	notify.mock.lastCall?.[1]?.action?.run();
	await vi.runAllTimersAsync();
	expect(ids(list.visible.value)).toContain("c0");
	expect(onUndo).toHaveBeenCalledOnce();
	expect(api.delete).not.toHaveBeenCalled();
});

test("a deletion reaches the server after the undo period, or when the page closes", async () => {
	list.delete("c0", () => {});
	await vi.runAllTimersAsync();
	expect(api.delete).toHaveBeenCalledWith("c0");
	expect(publish).toHaveBeenCalledWith({ kind: "deleted", conversation: "c0" });
	list.delete("c1", () => {});
	list.flushDeletions();
	await vi.runAllTimersAsync();
	expect(api.delete.mock.calls).toEqual([["c0"], ["c1"]]);
});

test("a conversation whose deletion fails is shown again", async () => {
	api.delete.mockRejectedValueOnce(new ApiError(unreachable("Not reachable.")));
	list.delete("c0", () => {});
	await vi.runAllTimersAsync();
	expect(ids(list.visible.value)).toContain("c0");
	expect(notify).toHaveBeenLastCalledWith("Not deleted. Not reachable.", { tone: "error" });
});
