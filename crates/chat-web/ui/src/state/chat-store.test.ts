import { beforeEach, expect, test, vi } from "vitest";
import { ApiError, unreachable } from "../api/client";
import type { StartedTurn } from "../api/stream";
import type { Conversation, ConversationList as ListPage, MessageList } from "../api/types";
import { ChatStore } from "./chat-store";
import { ConversationList } from "./conversation-list";
import type { NoticeOptions } from "./notices";
import { deferred, draftStore, MemoryStorage } from "./testing";

const AT = "2026-01-01T00:00:00.000Z";
const conversation = (id: string, updated_at = AT): Conversation => ({
	id,
	title: `Title ${id}`,
	created_at: AT,
	updated_at,
});
/** A conversation with one running turn, named after it. */
const page = (id: string): MessageList => ({
	messages: [
		{
			id: `${id}-question`,
			turn_id: `${id}-turn`,
			role: "user",
			content: "Question",
			created_at: AT,
			tool_calls: [],
			turn_status: "running",
		},
	],
});

let stored: Conversation[];
let chat: ChatStore;
let stops: string[];
const api = {
	conversations: vi.fn(async (): Promise<ListPage> => ({ conversations: stored })),
	rename: vi.fn(),
	delete: vi.fn(async () => {}),
	messages: vi.fn(async (id: string) => page(id)),
	conversation: vi.fn(async (id: string) => conversation(id)),
	send: vi.fn(async (): Promise<StartedTurn> => Promise.reject(new Error("unused"))),
	retry: vi.fn(async (): Promise<StartedTurn> => Promise.reject(new Error("unused"))),
	cancel: vi.fn(async (_: string) => {}),
	follow: vi.fn((turn: string) => () => void stops.push(turn)),
};
const notify = vi.fn<(text: string, options?: NoticeOptions) => void>();
const pushPath = vi.fn();

beforeEach(async () => {
	vi.clearAllMocks();
	stored = [conversation("a"), conversation("b")];
	stops = [];
	const list = new ConversationList({ api, notify, publish: vi.fn() });
	chat = new ChatStore({
		api,
		list,
		drafts: draftStore(new MemoryStorage()),
		now: () => Date.parse(AT),
		schedule: (render) => render(),
		pushPath,
		replacePath: vi.fn(),
		announce: vi.fn(),
		notify,
		publish: vi.fn(),
		agentName: () => "Atlas",
		isSignedIn: () => true,
		isUnloading: () => false,
	});
	await list.load();
});

const activeTurns = () => chat.activeConversation.value.turns.value.map((turn) => turn.value.id);

test("navigation shows the conversation and changes the address", async () => {
	await chat.navigateTo("a");
	expect(pushPath).toHaveBeenCalledExactlyOnceWith("/c/a");
	expect(activeTurns()).toEqual(["a-turn"]);
	expect(chat.activeEntry.value?.title).toBe("Title a");
	expect(chat.unfinishedTurn.value?.id).toBe("a-turn");
	await chat.navigateTo(null);
	expect(pushPath).toHaveBeenLastCalledWith("/");
	expect(chat.activeEntry.value).toBeNull();
});

test("a conversation left with an unfinished turn is busy in the list and not followed", async () => {
	await chat.show("a");
	await chat.show("b");
	expect(stops).toEqual(["a-turn"]);
	expect([...chat.list.busy.value]).toEqual(["a"]);
	expect(pushPath).not.toHaveBeenCalled();
});

test("a page that arrives after the next navigation is ignored", async () => {
	const late = deferred<MessageList>();
	api.messages.mockReturnValueOnce(late.promise);
	const first = chat.navigateTo("a");
	await chat.navigateTo("b");
	late.resolve(page("a"));
	await first;
	expect(activeTurns()).toEqual(["b-turn"]);
	expect(api.follow.mock.calls.map(([turn]) => turn)).toEqual(["b-turn"]);
});

test("a refresh reads the active conversation if and only if it has changed", async () => {
	await chat.show("a");
	stored = [conversation("b", "2026-01-02T00:00:00.000Z"), conversation("a")];
	await chat.refresh();
	expect(api.messages).toHaveBeenCalledTimes(1);
	stored = [conversation("a", "2026-01-03T00:00:00.000Z"), stored[0]!];
	await chat.refresh();
	expect(api.messages).toHaveBeenCalledTimes(2);
});

test("a turn is marked as cancelling when the server has accepted the cancellation", async () => {
	api.cancel.mockRejectedValueOnce(new ApiError(unreachable("Not reachable.")));
	await chat.cancel("t");
	expect(notify).toHaveBeenCalledWith("Not stopped. Not reachable.", { tone: "error" });
	expect(chat.cancelling.value.has("t")).toBe(false);
	await chat.cancel("t");
	expect(chat.cancelling.value.has("t")).toBe(true);
});

test("deleting the active conversation shows a new one; undoing that shows it again", async () => {
	await chat.show("a");
	chat.delete("a");
	expect(chat.activeConversation.value.id.value).toBeNull();
	notify.mock.lastCall?.[1]?.action?.run();
	await vi.waitFor(() => expect(activeTurns()).toEqual(["a-turn"]));
	chat.delete("b");
	expect(chat.activeConversation.value.id.value).toBe("a");
});
