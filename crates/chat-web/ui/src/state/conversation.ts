import { batch, computed, type Signal, signal } from "@preact/signals";
import { api, Refused } from "../api/client";
import { type Begun, Frames, follow, opening } from "../api/stream";
import type { MessageList } from "../api/types";
import { settings, token } from "../session/session";
import { unique } from "../session/unique";
import {
	acknowledged,
	begunAs,
	type Draft,
	giveBack,
	keepDraft,
	outboxOf,
	toOutbox,
} from "./drafts";
import { failure } from "./failure";
import * as list from "./list";
import { LiveTurn } from "./live";
import { say, tell } from "./notices";
import { withoutReasoning } from "./reasoning";
import { tellTabs } from "./tabs";
import { answerText, emptyTurn, isOpen, type Turn, turnsOf } from "./turn";

export type TurnSignal = Signal<Turn>;

/** The conversation that is shown. */
export interface Open {
	/** `null` until a new one has its first message. */
	id: Signal<string | null>;
	turns: Signal<TurnSignal[]>;
	/** The cursor of the page of earlier messages. */
	earlier: Signal<string | undefined>;
	/** The turns that pages began with, and the cursors of the pages before them. */
	starts: Map<string, string | undefined>;
	loading: Signal<boolean>;
	trouble: Signal<{ text: string; gone: boolean } | null>;
	/** A message on its way to the server. */
	sending: Signal<{ text: string; at: string } | null>;
	/** Whether news of the turn that runs come at the moment. */
	connected: Signal<boolean>;
	/** How often the turns were changed by what was done here. */
	changes: number;
	/** Changes when the draft was changed by others than its writer. */
	draftChanged: Signal<number>;
}

function blank(id: string | null): Open {
	return {
		id: signal(id),
		turns: signal([]),
		earlier: signal(undefined),
		starts: new Map(),
		loading: signal(id !== null),
		trouble: signal(null),
		sending: signal(null),
		connected: signal(true),
		changes: 0,
		draftChanged: signal(0),
	};
}

export const open = signal<Open>(blank(null));
export const current = computed(
	() =>
		list.conversations.value.find((conversation) => conversation.id === open.value.id.value) ??
		null,
);
/** The turn that runs, or else the one whose turn it is next. */
export const running = computed(
	() => open.value.turns.value.find((turn) => isOpen(turn.value))?.value ?? null,
);

/** Beyond so many turns, those far back leave the page when the reader goes on at the end; they are read again on the way up. */
const MOST_TURNS = 100;
const KEPT_TURNS = 20;

let following: { live: LiveTurn; stop: () => void } | undefined;

function stopFollowing() {
	following?.stop();
	following = undefined;
}

// --- which conversation is shown -------------------------------------------------------------------------------------

export const pathOf = (id: string | null) => (id ? `/c/${id}` : "/");

export function go(id: string | null, push = true) {
	const before = open.peek();
	if (before.id.peek() && running.peek()) list.setBusy(before.id.peek()!, true);
	stopFollowing();
	if (push) history.pushState(null, "", pathOf(id) + location.search);
	const next = blank(id);
	open.value = next;
	if (id) void load(next);
	else resend(next);
}

/** Reads the newest page, and follows what runs. */
export async function load(shown: Open) {
	const id = shown.id.peek();
	if (!id) return;
	stopFollowing();
	shown.loading.value = true;
	shown.trouble.value = null;
	try {
		const page = await api.messages(id);
		if (open.peek() !== shown) return;
		batch(() => {
			shown.turns.value = turnsOf(page.messages).map((turn) => signal(turn));
			shown.earlier.value = page.previous_cursor;
			mark(shown, page);
		});
		followNext(shown);
		resend(shown);
		if (!current.peek()) void api.conversation(id).then(list.put, () => {});
	} catch (error) {
		if (open.peek() !== shown) return;
		const gone =
			error instanceof Refused &&
			(error.problem.status === 404 || error.problem.code === "invalid_request");
		shown.trouble.value = {
			text: gone
				? "There is no such conversation. It may have been deleted."
				: list.sentence(error),
			gone,
		};
	} finally {
		shown.loading.value = false;
	}
}

let syncing: Promise<void> | undefined;
let again = false;

/** Reads the newest page again, because something changed elsewhere. What is being followed stays as it is. */
export function sync(shown: Open): Promise<void> {
	again = true;
	syncing ??= (async () => {
		try {
			while (again) {
				again = false;
				await syncOnce(open.peek());
			}
		} finally {
			syncing = undefined;
		}
	})();
	return open.peek() === shown ? syncing : Promise.resolve();
}

async function syncOnce(shown: Open) {
	const id = shown.id.peek();
	if (!id || shown.loading.peek()) return;
	const changes = shown.changes;
	const page = await api.messages(id);
	if (open.peek() !== shown) return;
	if (shown.changes !== changes) {
		// What was read may be older than what was done since.
		again = true;
		return;
	}
	const fresh = turnsOf(page.messages);
	const old = shown.turns.peek();
	const overlap = old.findIndex((turn) => turn.peek().id === fresh[0]?.id);
	const known = new Map(old.map((turn) => [turn.peek().id, turn]));
	const now = fresh.map((turn) => {
		const before = known.get(turn.id);
		if (!before) return signal(turn);
		if (following?.live.shown !== before) before.value = joined(before.peek(), turn);
		return before;
	});
	mark(shown, page);
	batch(() => {
		shown.turns.value = [...old.slice(0, Math.max(0, overlap)), ...now];
		if (overlap < 0) shown.earlier.value = page.previous_cursor;
	});
	if (following && !shown.turns.peek().includes(following.live.shown)) stopFollowing();
	followNext(shown);
}

function mark(shown: Open, page: MessageList) {
	const first = page.messages[0];
	if (first) shown.starts.set(first.turn_id, page.previous_cursor);
}

/** A turn whose two messages may stand on two pages. */
function joined(one: Turn, other: Turn): Turn {
	return {
		...other,
		question: other.question ?? one.question,
		parts: other.parts.length > 0 ? other.parts : one.parts,
	};
}

export async function loadEarlier() {
	const shown = open.peek();
	const [id, before] = [shown.id.peek(), shown.earlier.peek()];
	if (!id || !before || shown.loading.peek()) return;
	shown.loading.value = true;
	try {
		const page = await api.messages(id, { before });
		if (open.peek() !== shown) return;
		prependPage(shown, page);
	} catch (error) {
		tell(list.sentence(error), { tone: "error" });
	} finally {
		shown.loading.value = false;
	}
}

/** Puts a page of earlier messages before those that are shown. */
export function prependPage(shown: Open, page: MessageList) {
	const earlier = turnsOf(page.messages);
	const [first, ...rest] = shown.turns.peek();
	const last = earlier.at(-1);
	batch(() => {
		const split = first && last && first.peek().id === last.id;
		if (split) {
			first.value = joined(last, first.peek());
			earlier.pop();
		}
		shown.turns.value = [
			...earlier.map((turn) => signal(turn)),
			...(first ? [first, ...rest] : []),
		];
		shown.earlier.value = page.previous_cursor;
		mark(shown, page);
	});
}

// --- what runs -------------------------------------------------------------------------------------------------------

/** Follows the first turn that has not ended, if there is one. */
function followNext(shown: Open, first?: { turn: string; frames: Frames }) {
	if (following) {
		first?.frames.close();
		return;
	}
	const next = shown.turns.peek().find((turn) => isOpen(turn.peek()));
	if (!next) {
		first?.frames.close();
		return;
	}
	const { id } = next.peek();
	const frames = first?.turn === id ? first.frames : undefined;
	if (!frames) first?.frames.close();
	const live = new LiveTurn(next);
	shown.connected.value = true;
	const stop = follow(
		id,
		{
			event: (event) => {
				live.hear(event);
				if (event.name === "done" || event.name === "error") ended(shown, next.peek());
			},
			link: (connected) => {
				if (shown.connected.peek() && !connected) say("The connection is lost. Trying again.");
				shown.connected.value = connected;
			},
			gone: () => {
				following = undefined;
				if (open.peek() === shown) void load(shown);
			},
		},
		frames,
	);
	following = { live, stop };
}

function ended(shown: Open, turn: Turn) {
	following = undefined;
	shown.changes++;
	shown.connected.value = true;
	const id = shown.id.peek();
	if (id) list.setBusy(id, false);
	const name = settings.peek()?.agent_name ?? "";
	const { happened, advice } = failure(turn, name);
	if (turn.status === "failed") say(`${happened} ${advice}`);
	else if (turn.status === "cancelled") say("The answer was stopped.");
	else say(`${name} answered. ${spoken(turn)}`);
	followNext(shown);
	void refresh().catch(() => {});
}

/** The beginning of an answer, without the marks that nobody wants to hear. */
const spoken = (turn: Turn) =>
	withoutReasoning(answerText(turn))
		.replace(/[#*_`>|]/g, "")
		.slice(0, 600);

/** Reads what changed, in the list and in the conversation that is shown. */
export async function refresh() {
	const changed = await list.refreshList();
	const shown = open.peek();
	if (changed.some((conversation) => conversation.id === shown.id.peek())) await sync(shown);
}

// --- what the user does ----------------------------------------------------------------------------------------------

/** Sends a message; whether it was acknowledged. What is not acknowledged is a draft again. */
export function send(text: string): Promise<boolean> {
	const shown = open.peek();
	const draft = keepDraft(shown.id.peek(), text);
	toOutbox(shown.id.peek(), draft);
	return deliver(shown, draft);
}

/** Sends what was on its way when the page was left. */
function resend(shown: Open) {
	const left = outboxOf(shown.id.peek());
	if (left && token.peek() && !shown.sending.peek()) void deliver(shown, left);
}

/** Whoever leaves the page breaks its requests off, some time before the page is hidden; that is no answer. */
let leaving = false;
addEventListener("beforeunload", () => {
	leaving = true;
});
addEventListener("pageshow", () => {
	leaving = false;
});

async function deliver(shown: Open, draft: Draft): Promise<boolean> {
	const conversation = shown.id.peek();
	shown.sending.value = { text: draft.text, at: new Date().toISOString() };
	try {
		const frames = new Frames(await api.send(draft.text, conversation, draft.key));
		const begun = await opening(frames);
		acknowledged(conversation);
		tellTabs({ kind: "changed", conversation: begun.conversation });
		if (open.peek() !== shown) {
			frames.close();
			list.setBusy(begun.conversation, true);
		} else take(shown, draft, begun, frames);
		void list.refreshList().catch(() => {});
		return true;
	} catch (error) {
		if (leaving) return false;
		giveBack(conversation);
		shown.draftChanged.value++;
		tell(`Not sent. ${list.sentence(error)}`, { tone: "error" });
		return false;
	} finally {
		shown.sending.value = null;
	}
}

function take(shown: Open, draft: Draft, begun: Begun, frames: Frames) {
	shown.changes++;
	batch(() => {
		if (shown.id.peek() === null) {
			begunAs(begun.conversation);
			shown.id.value = begun.conversation;
			history.replaceState(null, "", pathOf(begun.conversation) + location.search);
		}
		const turns = shown.turns.peek();
		if (!turns.some((turn) => turn.peek().id === begun.turn)) {
			const question = {
				id: begun.turn,
				text: draft.text,
				at: shown.sending.peek()?.at ?? new Date().toISOString(),
			};
			shown.turns.value = [
				...nearEnd(shown, turns),
				signal({ ...emptyTurn(begun.turn, begun.status), question }),
			];
		}
		shown.sending.value = null;
	});
	followNext(shown, { turn: begun.turn, frames });
}

/** The turns near the end, from the start of a page on; those before are read again when they are wanted. */
function nearEnd(shown: Open, turns: TurnSignal[]): TurnSignal[] {
	if (turns.length <= MOST_TURNS) return turns;
	const at = turns.slice(0, -KEPT_TURNS).findLastIndex((turn) => shown.starts.has(turn.peek().id));
	const first = turns[at];
	if (!first || at === 0) {
		// The newest page gives a place to cut at, for the next time.
		void sync(shown).catch(() => {});
		return turns;
	}
	shown.earlier.value = shown.starts.get(first.peek().id);
	return turns.slice(at);
}

/** Retries a turn. */
export async function retry(turn: string) {
	const shown = open.peek();
	try {
		const frames = new Frames(await api.retry(turn, unique()));
		const begun = await opening(frames);
		tellTabs({ kind: "changed", conversation: begun.conversation });
		if (open.peek() !== shown) {
			frames.close();
			return;
		}
		const turns = shown.turns.peek();
		const at = turns.findIndex((known) => known.peek().id === turn);
		const question = turns[at]?.peek().question ?? null;
		shown.changes++;
		shown.turns.value = [
			...turns.slice(0, Math.max(0, at)),
			signal({ ...emptyTurn(begun.turn, begun.status, turn), question }),
		];
		followNext(shown, { turn: begun.turn, frames });
	} catch (error) {
		tell(`Not retried. ${list.sentence(error)}`, { tone: "error" });
		// Perhaps somebody else did.
		void sync(shown).catch(() => {});
	}
}

/** Turns that are to stop. One that is queued keeps its place until its time comes. */
export const stopping = signal<ReadonlySet<string>>(new Set());

/** Stops a turn, or takes a queued message back. */
export async function cancel(turn: string) {
	try {
		await api.cancel(turn);
		stopping.value = new Set(stopping.peek()).add(turn);
	} catch (error) {
		tell(`Not stopped. ${list.sentence(error)}`, { tone: "error" });
	}
}

export function remove(id: string) {
	const wasOpen = open.peek().id.peek() === id;
	if (wasOpen) go(null);
	list.remove(id, () => {
		if (wasOpen) go(id);
	});
}
