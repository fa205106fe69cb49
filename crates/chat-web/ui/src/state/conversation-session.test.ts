import { beforeEach, describe, expect, test, vi } from "vitest";
import { ApiError, unreachable } from "../api/client";
import type { StartedTurn, TurnObserver } from "../api/stream";
import type { Conversation, Message, MessageList, TurnEvent } from "../api/types";
import { ConversationSession, type SessionPorts } from "./conversation-session";
import type { DraftStore } from "./draft-store";
import { deferred, draftStore, MemoryStorage } from "./testing";
import { answerText, type Turn } from "./turn";

const NOW = Date.UTC(2026, 0, 1);
const AT = new Date(NOW).toISOString();
const OFFLINE = new ApiError(unreachable("Not reachable."));

/** A follower of a turn that the fake API has started. */
interface Followed {
	turn: string;
	observer: TurnObserver;
	hasStream: boolean;
	stop: ReturnType<typeof vi.fn>;
}

let messages: Message[];
let followed: Followed[];
let renders: (() => void)[];
let drafts: DraftStore;
let ports: ReturnType<typeof fakePorts>;

const message = (turn: string, status: Turn["status"], role: Message["role"]): Message => ({
	id: `${turn}-${role}`,
	turn_id: turn,
	role,
	content: role === "user" ? `Question ${turn}` : `Answer ${turn}`,
	created_at: AT,
	tool_calls: [],
	turn_status: status,
});
const turnMessages = (turn: string, status: Turn["status"] = "completed") =>
	(status === "completed" ? (["user", "assistant"] as const) : (["user"] as const)).map((role) =>
		message(turn, status, role),
	);
const conversation = (id: string): Conversation => ({
	id,
	title: `Title ${id}`,
	created_at: AT,
	updated_at: AT,
});
const started = (turn: string, status: Turn["status"] = "running"): StartedTurn => ({
	turn,
	conversation: "c",
	status,
	stream: { next: async () => null, close: vi.fn() },
});
const text = (delta: string): TurnEvent => ({ name: "text", data: { message_id: "m", delta } });
const done = (turn: string, status: Turn["status"] = "completed"): TurnEvent => ({
	name: "done",
	data: {
		turn_id: turn,
		conversation_id: "c",
		status,
		ended_at: AT,
		usage: { input_tokens: 1, output_tokens: 1 },
	},
});

function fakePorts() {
	return {
		api: {
			messages: vi.fn(async (_: string, __?: { before?: string }): Promise<MessageList> => {
				return { messages };
			}),
			conversation: vi.fn(async (id: string) => conversation(id)),
			send: vi.fn(async (_: string, __: string | null, ___: string) => started("new")),
			retry: vi.fn(async (_: string, __: string) => started("retry")),
			follow: vi.fn((turn: string, observer: TurnObserver, stream?: unknown) => {
				const stop = vi.fn();
				followed.push({ turn, observer, hasStream: stream !== undefined, stop });
				return stop;
			}),
		},
		drafts,
		list: {
			find: vi.fn((id: string): Conversation | undefined => conversation(id)),
			upsert: vi.fn(),
			markBusy: vi.fn(),
			clearBusy: vi.fn(),
			refresh: vi.fn(async () => []),
		},
		now: () => NOW,
		schedule: (render: () => void) => renders.push(render),
		replacePath: vi.fn(),
		announce: vi.fn(),
		notify: vi.fn(),
		publish: vi.fn(),
		refresh: vi.fn(async () => {}),
		agentName: () => "Atlas",
		isSignedIn: () => true,
		isUnloading: vi.fn(() => false),
	} satisfies SessionPorts;
}

beforeEach(() => {
	messages = [];
	followed = [];
	renders = [];
	drafts = draftStore(new MemoryStorage());
	ports = fakePorts();
});

const turnsOf = (session: ConversationSession) => session.turns.peek().map((turn) => turn.peek());
const ids = (session: ConversationSession) => turnsOf(session).map(({ id }) => id);

async function opened(...stored: Message[][]) {
	messages = stored.flat();
	const session = new ConversationSession("c", ports);
	await session.start();
	return session;
}

describe("opening", () => {
	test("shows the newest page and follows the running turn before a queued one", async () => {
		const session = await opened(
			turnMessages("a"),
			turnMessages("b", "running"),
			turnMessages("x", "queued"),
		);
		expect(ids(session)).toEqual(["a", "b", "x"]);
		expect(session.isLoading.peek()).toBe(false);
		expect(followed.map(({ turn, hasStream }) => [turn, hasStream])).toEqual([["b", false]]);
	});

	test("adds a conversation that the list does not have to the list", async () => {
		ports.list.find.mockReturnValue(undefined);
		await opened(turnMessages("a"));
		await vi.waitFor(() => expect(ports.list.upsert).toHaveBeenCalledWith(conversation("c")));
	});

	test("reports a missing conversation as gone and other failures with their text", async () => {
		const notFound = { ...unreachable("No such conversation."), status: 404 };
		ports.api.messages.mockRejectedValueOnce(new ApiError(notFound));
		const session = await opened();
		expect(session.trouble.peek()).toMatchObject({ isGone: true });
		ports.api.messages.mockRejectedValueOnce(OFFLINE);
		await session.load();
		expect(session.trouble.peek()).toEqual({ text: "Not reachable.", isGone: false });
		await session.load();
		expect(session.trouble.peek()).toBeNull();
	});

	test("ignores a page that arrives after the session was closed", async () => {
		const page = deferred<MessageList>();
		ports.api.messages.mockReturnValueOnce(page.promise);
		const session = new ConversationSession("c", ports);
		const opening = session.start();
		session.close();
		page.resolve({ messages: turnMessages("a", "running") });
		await opening;
		expect(ids(session)).toEqual([]);
		expect(followed).toEqual([]);
	});

	test("sends the message that was in the outbox, with its key", async () => {
		const draft = drafts.save("c", "Unsent");
		drafts.moveToOutbox("c", draft);
		await opened(turnMessages("a"));
		await vi.waitFor(() => expect(drafts.outboxOf("c")).toBeNull());
		expect(ports.api.send).toHaveBeenCalledExactlyOnceWith("Unsent", "c", draft.key);
	});

	test("keeps the outbox while the user is signed out", async () => {
		drafts.moveToOutbox(null, drafts.save(null, "Unsent"));
		const session = new ConversationSession(null, { ...ports, isSignedIn: () => false });
		await session.start();
		expect(ports.api.send).not.toHaveBeenCalled();
		expect(drafts.outboxOf(null)?.text).toBe("Unsent");
	});
});

describe("sending", () => {
	test("shows the message at once, then the turn, and follows its open stream", async () => {
		const response = deferred<StartedTurn>();
		ports.api.send.mockReturnValueOnce(response.promise);
		const session = await opened(turnMessages("a"));
		const sent = session.send("Hello");
		expect(session.sending.peek()).toEqual({ text: "Hello", at: AT });
		expect(drafts.outboxOf("c")?.text).toBe("Hello");
		response.resolve(started("b"));
		expect(await sent).toBe(true);
		expect(session.sending.peek()).toBeNull();
		expect(turnsOf(session)[1]).toMatchObject({
			id: "b",
			status: "running",
			question: { text: "Hello", at: AT },
		});
		expect(followed).toMatchObject([{ turn: "b", hasStream: true }]);
		expect(drafts.outboxOf("c")).toBeNull();
		expect(ports.publish).toHaveBeenCalledWith({ kind: "changed", conversation: "c" });
	});

	test("gives a new conversation its id, its address and the draft written since", async () => {
		const session = new ConversationSession(null, ports);
		await session.start();
		const sent = session.send("Hello");
		drafts.save(null, "Next");
		await sent;
		expect(session.id.peek()).toBe("c");
		expect(ports.replacePath).toHaveBeenCalledExactlyOnceWith("/c/c");
		expect(drafts.draftOf("c")?.text).toBe("Next");
	});

	test("closes the stream of a queued turn while another turn is followed", async () => {
		const queued = started("b", "queued");
		ports.api.send.mockResolvedValueOnce(queued);
		const session = await opened(turnMessages("a", "running"));
		await session.send("Hello");
		expect(queued.stream.close).toHaveBeenCalledOnce();
		expect(followed.map(({ turn }) => turn)).toEqual(["a"]);
	});

	test("turns a message that was not sent back into a draft", async () => {
		ports.api.send.mockRejectedValueOnce(OFFLINE);
		const session = await opened(turnMessages("a"));
		expect(await session.send("Hello")).toBe(false);
		expect(drafts.draftOf("c")?.text).toBe("Hello");
		expect(ports.notify).toHaveBeenCalledWith("Not sent. Not reachable.", { tone: "error" });
		expect(ids(session)).toEqual(["a"]);
	});

	test("leaves the message in the outbox when the browser aborts it to leave the page", async () => {
		ports.api.send.mockRejectedValueOnce(OFFLINE);
		ports.isUnloading.mockReturnValueOnce(true);
		const session = await opened();
		await session.send("Hello");
		expect(drafts.outboxOf("c")?.text).toBe("Hello");
		expect(ports.notify).not.toHaveBeenCalled();
	});

	test("marks a conversation that was closed during the request as busy", async () => {
		const response = deferred<StartedTurn>();
		ports.api.send.mockReturnValueOnce(response.promise);
		const session = await opened(turnMessages("a"));
		const sent = session.send("Hello");
		session.close();
		const turn = started("b");
		response.resolve(turn);
		expect(await sent).toBe(true);
		expect(ports.list.markBusy).toHaveBeenCalledWith("c");
		expect(turn.stream.close).toHaveBeenCalledOnce();
		expect([ids(session), followed]).toEqual([["a"], []]);
	});

	test("removes old turns of a long conversation, from the start of a page on", async () => {
		const range = (from: number, to: number) =>
			Array.from({ length: to - from }, (_, index) => turnMessages(`t${from + index}`)).flat();
		ports.api.messages.mockResolvedValueOnce({
			messages: range(60, 100),
			previous_cursor: "before-60",
		});
		const session = await opened();
		ports.api.messages.mockResolvedValueOnce({ messages: range(0, 60) });
		await session.loadEarlier();
		expect(session.earlierCursor.peek()).toBeUndefined();
		await session.send("Hello");
		expect(ids(session)).toHaveLength(41);
		expect(ids(session)[0]).toBe("t60");
		expect(session.earlierCursor.peek()).toBe("before-60");
	});
});

describe("streaming", () => {
	test("draws text when scheduled and ends with an announcement and a refresh", async () => {
		const session = await opened(turnMessages("a", "running"));
		const { observer } = followed[0]!;
		observer.onEvent(text("Hel"));
		observer.onEvent(text("lo"));
		expect(renders).toHaveLength(1);
		expect(answerText(turnsOf(session)[0]!)).toBe("");
		renders[0]!();
		expect(answerText(turnsOf(session)[0]!)).toBe("Hello");
		observer.onEvent(text("!"));
		observer.onEvent(done("a"));
		expect(turnsOf(session)[0]).toMatchObject({ status: "completed", endedAt: AT });
		expect(answerText(turnsOf(session)[0]!)).toBe("Hello!");
		expect(ports.announce).toHaveBeenCalledWith("Atlas answered. Hello!");
		expect(ports.list.clearBusy).toHaveBeenCalledWith("c");
		expect(ports.refresh).toHaveBeenCalledOnce();
	});

	test("follows the next queued turn at the end of a turn", async () => {
		await opened(turnMessages("a", "running"), turnMessages("b", "queued"));
		followed[0]!.observer.onEvent(done("a", "cancelled"));
		expect(ports.announce).toHaveBeenCalledWith("The answer was stopped.");
		expect(followed.map(({ turn }) => turn)).toEqual(["a", "b"]);
	});

	test("announces a lost connection once, until it is resumed", async () => {
		const session = await opened(turnMessages("a", "running"));
		const { observer } = followed[0]!;
		observer.onConnectionChange(false);
		observer.onConnectionChange(false);
		expect(session.isConnected.peek()).toBe(false);
		expect(ports.announce).toHaveBeenCalledExactlyOnceWith("The connection is lost. Trying again.");
		observer.onConnectionChange(true);
		expect(session.isConnected.peek()).toBe(true);
	});

	test("reads the conversation again when the followed turn is gone", async () => {
		const session = await opened(turnMessages("a", "running"));
		messages = turnMessages("b");
		followed[0]!.observer.onGone();
		await vi.waitFor(() => expect(ids(session)).toEqual(["b"]));
	});

	test("stops when the session is closed", async () => {
		const session = await opened(turnMessages("a", "running"));
		session.close();
		expect(followed[0]!.stop).toHaveBeenCalledOnce();
	});
});

describe("synchronising", () => {
	test("adds turns of other tabs and keeps the followed turn as it is", async () => {
		const session = await opened(turnMessages("a", "running"));
		followed[0]!.observer.onEvent(text("Streamed"));
		renders[0]!();
		messages = [...turnMessages("a", "running"), ...turnMessages("b", "queued")];
		await session.sync();
		expect(ids(session)).toEqual(["a", "b"]);
		expect(answerText(turnsOf(session)[0]!)).toBe("Streamed");
		expect(followed).toHaveLength(1);
	});

	test("follows the turn that took the place of the followed one", async () => {
		const session = await opened(turnMessages("a"), turnMessages("b", "running"));
		messages = [...turnMessages("a"), ...turnMessages("x", "running")];
		await session.sync();
		expect(followed.map(({ turn }) => turn)).toEqual(["b", "x"]);
		expect(followed[0]!.stop).toHaveBeenCalledOnce();
	});

	test("reads again when a message was sent during the read", async () => {
		const session = await opened(turnMessages("a"));
		const outdated = deferred<MessageList>();
		ports.api.messages.mockReturnValueOnce(outdated.promise);
		const synced = session.sync();
		await session.send("Hello");
		messages = [...turnMessages("a"), ...turnMessages("new", "running")];
		outdated.resolve({ messages: turnMessages("a") });
		await synced;
		expect(ids(session)).toEqual(["a", "new"]);
		expect(ports.api.messages).toHaveBeenCalledTimes(3);
	});

	test("ignores a page that arrives after the session was closed", async () => {
		const session = await opened(turnMessages("a"));
		const page = deferred<MessageList>();
		ports.api.messages.mockReturnValueOnce(page.promise);
		const synced = session.sync();
		session.close();
		page.resolve({ messages: turnMessages("b", "running") });
		await synced;
		expect([ids(session), followed]).toEqual([["a"], []]);
	});

	test("moves the cursor of earlier messages when no known turn is on the page", async () => {
		const session = await opened(turnMessages("a"));
		ports.api.messages.mockResolvedValueOnce({
			messages: turnMessages("z"),
			previous_cursor: "before-z",
		});
		await session.sync();
		expect(ids(session)).toEqual(["z"]);
		expect(session.earlierCursor.peek()).toBe("before-z");
	});

	test("combines calls during a read into one more read", async () => {
		const session = await opened(turnMessages("a"));
		const first = session.sync();
		await Promise.all([first, session.sync(), session.sync()]);
		expect(ports.api.messages).toHaveBeenCalledTimes(3);
	});

	test("reports a failure to its caller and works again afterwards", async () => {
		const session = await opened(turnMessages("a"));
		ports.api.messages.mockRejectedValueOnce(OFFLINE);
		await expect(session.sync()).rejects.toBe(OFFLINE);
		messages = [...turnMessages("a"), ...turnMessages("b")];
		await session.sync();
		expect(ids(session)).toEqual(["a", "b"]);
	});
});

describe("earlier messages", () => {
	test("come before the others, and the cursor moves", async () => {
		ports.api.messages.mockResolvedValueOnce({
			messages: turnMessages("b"),
			previous_cursor: "before-b",
		});
		const session = await opened();
		ports.api.messages.mockResolvedValueOnce({ messages: turnMessages("a") });
		await session.loadEarlier();
		expect(ports.api.messages).toHaveBeenLastCalledWith("c", { before: "before-b" });
		expect(ids(session)).toEqual(["a", "b"]);
		await session.loadEarlier();
		expect(ports.api.messages).toHaveBeenCalledTimes(2);
	});

	test("that cannot be read are reported", async () => {
		ports.api.messages.mockResolvedValueOnce({
			messages: turnMessages("b"),
			previous_cursor: "before-b",
		});
		const session = await opened();
		ports.api.messages.mockRejectedValueOnce(OFFLINE);
		await session.loadEarlier();
		expect(ports.notify).toHaveBeenCalledWith("Not reachable.", { tone: "error" });
		expect(session.isLoading.peek()).toBe(false);
	});
});

describe("retrying", () => {
	test("replaces the turn by the new one and follows it", async () => {
		const session = await opened(turnMessages("a"), turnMessages("b"));
		await session.retry("b");
		expect(ids(session)).toEqual(["a", "retry"]);
		expect(turnsOf(session)[1]).toMatchObject({
			retryOf: "b",
			question: { text: "Question b" },
		});
		expect(followed).toMatchObject([{ turn: "retry", hasStream: true }]);
	});

	test("that fails reads the conversation again: another tab may have retried", async () => {
		const session = await opened(turnMessages("a"));
		ports.api.retry.mockRejectedValueOnce(OFFLINE);
		messages = turnMessages("x");
		await session.retry("a");
		expect(ports.notify).toHaveBeenCalledWith("Not retried. Not reachable.", { tone: "error" });
		await vi.waitFor(() => expect(ids(session)).toEqual(["x"]));
	});

	test("in a session that is closed during the request follows nothing", async () => {
		const response = deferred<StartedTurn>();
		ports.api.retry.mockReturnValueOnce(response.promise);
		const session = await opened(turnMessages("a"));
		const retried = session.retry("a");
		session.close();
		const turn = started("retry");
		response.resolve(turn);
		await retried;
		expect(turn.stream.close).toHaveBeenCalledOnce();
		expect(followed).toEqual([]);
	});
});
