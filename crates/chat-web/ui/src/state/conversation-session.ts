import { batch, type Signal, signal } from "@preact/signals";
import { ApiError, errorText } from "../api/client";
import type { OpenStream, StartedTurn, TurnObserver } from "../api/stream";
import type { Conversation, MessageList, TurnEvent } from "../api/types";
import { randomId } from "../session/random-id";
import { endAnnouncement } from "./announcement";
import {
	appendTurn,
	firstUnfinished,
	mergeNewestPage,
	prependPage,
	replaceByRetry,
	type Turns,
	trimToRecentPage,
} from "./conversation-reducers";
import type { Draft, DraftStore } from "./draft-store";
import { LiveTurn, type RenderScheduler } from "./live-turn";
import type { NoticeOptions } from "./notices";
import type { TabMessage } from "./tab-channel";
import { emptyTurn, type Turn, turnsOf } from "./turn";

export type TurnSignal = Signal<Turn>;

/** Beyond `MAX_TURNS`, turns far from the end are removed; scrolling up reads them again. */
const MAX_TURNS = 100;
const KEPT_TURNS = 20;

/** The address of a conversation; that of a new one is `/`. */
export const pathOf = (id: string | null) => (id ? `/c/${id}` : "/");

/** The API as a session uses it. */
export interface SessionApi {
	messages(id: string, options?: { before?: string }): Promise<MessageList>;
	conversation(id: string): Promise<Conversation>;
	send(text: string, conversation: string | null, key: string): Promise<StartedTurn>;
	retry(turn: string, key: string): Promise<StartedTurn>;
	/** Delivers a turn's events until its end or until the returned function is called. */
	follow(turn: string, observer: TurnObserver, stream?: OpenStream): () => void;
}

/** A session's dependencies on the rest of the page. */
export interface SessionPorts {
	api: SessionApi;
	drafts: DraftStore;
	list: {
		find(id: string): Conversation | undefined;
		upsert(conversation: Conversation): void;
		markBusy(id: string): void;
		clearBusy(id: string): void;
		refresh(): Promise<unknown>;
	};
	/** The time in milliseconds since 1970. */
	now: () => number;
	/** Decides when streamed text is drawn. */
	schedule: RenderScheduler;
	/** Changes the address of the page without a new entry in its history. */
	replacePath: (path: string) => void;
	announce: (text: string) => void;
	notify: (text: string, options?: NoticeOptions) => void;
	/** Reports a change to the other tabs of this browser. */
	publish: (message: TabMessage) => void;
	/** Reads the changes of the list and of the conversation that is shown. */
	refresh: () => Promise<void>;
	agentName: () => string;
	isSignedIn: () => boolean;
	/** Whether the browser is leaving the page and so aborts its requests. */
	isUnloading: () => boolean;
}

/**
 * A conversation while it is shown: its turns, the message that is being sent and the stream of the
 * turn that runs. After `close`, responses that are still on their way change nothing here.
 */
export class ConversationSession {
	/** `null` until a new conversation has its first message. */
	readonly id: Signal<string | null>;
	readonly turns = signal<readonly TurnSignal[]>([]);
	/** The cursor of the page of earlier messages. */
	readonly earlierCursor = signal<string | undefined>(undefined);
	readonly isLoading: Signal<boolean>;
	/** The error of the last attempt to load the conversation, for users. */
	readonly trouble = signal<{ text: string; isGone: boolean } | null>(null);
	/** The message that the server has not acknowledged yet. */
	readonly sending = signal<{ text: string; at: string } | null>(null);
	/** Whether the stream of the turn that runs is connected. */
	readonly isConnected = signal(true);

	#ports: SessionPorts;
	#isClosed = false;
	/** Counts local changes of the turns. A page that was requested before one is outdated. */
	#revision = 0;
	#pageStarts = new Map<string, string | undefined>();
	#followed: { live: LiveTurn; stop: () => void } | undefined;
	#syncing: Promise<void> | undefined;
	#isSyncRequested = false;

	constructor(id: string | null, ports: SessionPorts) {
		this.id = signal(id);
		this.isLoading = signal(id !== null);
		this.#ports = ports;
	}

	/** Shows the conversation: reads it, or continues to send the first message of a new one. */
	start(): Promise<void> {
		if (this.id.peek() !== null) return this.load();
		this.#resend();
		return Promise.resolve();
	}

	close() {
		this.#isClosed = true;
		this.#stopFollowing();
	}

	/** Reads the newest page and follows the turn that runs. */
	async load() {
		const id = this.id.peek();
		if (!id) return;
		this.#stopFollowing();
		this.isLoading.value = true;
		this.trouble.value = null;
		try {
			const page = await this.#ports.api.messages(id);
			if (this.#isClosed) return;
			batch(() => {
				this.turns.value = turnsOf(page.messages).map((turn) => signal(turn));
				this.earlierCursor.value = page.previous_cursor ?? undefined;
				this.#recordPageStart(page);
			});
			this.#followNext();
			this.#resend();
			if (!this.#ports.list.find(id)) void this.#addToList(id);
		} catch (error) {
			if (!this.#isClosed) this.trouble.value = loadTrouble(error);
		} finally {
			this.isLoading.value = false;
		}
	}

	async #addToList(id: string) {
		try {
			this.#ports.list.upsert(await this.#ports.api.conversation(id));
		} catch {
			// The next refresh of the list finds the conversation.
		}
	}

	/**
	 * Reads the newest page again after a change elsewhere. Calls during a read cause one more read.
	 * The followed turn stays as it is.
	 */
	sync(): Promise<void> {
		this.#isSyncRequested = true;
		this.#syncing ??= this.#runSyncs().finally(() => {
			this.#syncing = undefined;
		});
		return this.#syncing;
	}

	async #runSyncs() {
		while (this.#isSyncRequested && !this.#isClosed) {
			this.#isSyncRequested = false;
			await this.#syncOnce();
		}
	}

	async #syncOnce() {
		const id = this.id.peek();
		if (!id || this.isLoading.peek()) return;
		const revision = this.#revision;
		const page = await this.#ports.api.messages(id);
		if (this.#isClosed) return;
		if (this.#revision !== revision) {
			this.#isSyncRequested = true;
			return;
		}
		const followed = this.#followed?.live.shown.peek().id ?? null;
		const { turns, isContiguous } = mergeNewestPage(
			this.#currentTurns(),
			turnsOf(page.messages),
			followed,
		);
		this.#recordPageStart(page);
		batch(() => {
			this.#setTurns(turns);
			if (!isContiguous) this.earlierCursor.value = page.previous_cursor ?? undefined;
		});
		if (!turns.some((turn) => turn.id === followed)) this.#stopFollowing();
		this.#followNext();
	}

	/** Reads one page of earlier messages. */
	async loadEarlier() {
		const [id, before] = [this.id.peek(), this.earlierCursor.peek()];
		if (!id || !before || this.isLoading.peek()) return;
		this.isLoading.value = true;
		try {
			const page = await this.#ports.api.messages(id, { before });
			if (!this.#isClosed) this.prependPage(page);
		} catch (error) {
			this.#ports.notify(errorText(error), { tone: "error" });
		} finally {
			this.isLoading.value = false;
		}
	}

	/** Puts a page of earlier messages before the turns that are shown. */
	prependPage(page: MessageList) {
		batch(() => {
			this.#setTurns(prependPage(this.#currentTurns(), turnsOf(page.messages)));
			this.earlierCursor.value = page.previous_cursor ?? undefined;
			this.#recordPageStart(page);
		});
	}

	/**
	 * Sends a message. Resolves to whether the server has acknowledged it; a message that it has not
	 * acknowledged becomes a draft again.
	 */
	send(text: string): Promise<boolean> {
		const { drafts } = this.#ports;
		const conversation = this.id.peek();
		const draft = drafts.save(conversation, text);
		drafts.moveToOutbox(conversation, draft);
		return this.#deliver(draft);
	}

	/** Sends the message that was in the outbox when the page was closed. */
	#resend() {
		const unsent = this.#ports.drafts.outboxOf(this.id.peek());
		if (unsent && this.#ports.isSignedIn() && !this.sending.peek()) void this.#deliver(unsent);
	}

	async #deliver(draft: Draft): Promise<boolean> {
		const { api, drafts, list, notify, publish } = this.#ports;
		const conversation = this.id.peek();
		const at = new Date(this.#ports.now()).toISOString();
		this.sending.value = { text: draft.text, at };
		try {
			const started = await api.send(draft.text, conversation, draft.key);
			drafts.acknowledge(conversation);
			publish({ kind: "changed", conversation: started.conversation });
			if (this.#isClosed) {
				started.stream.close();
				list.markBusy(started.conversation);
			} else {
				this.#appendTurn(started, { id: started.turn, text: draft.text, at });
			}
			void list.refresh().catch(() => {});
			return true;
		} catch (error) {
			// The message stays in the outbox; the next page sends it.
			if (this.#ports.isUnloading()) return false;
			drafts.restore(conversation);
			notify(`Not sent. ${errorText(error)}`, { tone: "error" });
			return false;
		} finally {
			this.sending.value = null;
		}
	}

	#appendTurn(started: StartedTurn, question: NonNullable<Turn["question"]>) {
		this.#revision++;
		batch(() => {
			if (this.id.peek() === null) {
				this.#ports.drafts.assignNewDraft(started.conversation);
				this.id.value = started.conversation;
				this.#ports.replacePath(pathOf(started.conversation));
			}
			const turn = { ...emptyTurn(started.turn, started.status), question };
			const known = this.#currentTurns();
			const turns = appendTurn(known, turn);
			if (turns !== known) this.#setTurns(this.#trimmed(turns));
			this.sending.value = null;
		});
		this.#followNext(started);
	}

	#trimmed(turns: Turns): Turns {
		if (turns.length <= MAX_TURNS) return turns;
		const trimmed = trimToRecentPage(turns, this.#pageStarts, KEPT_TURNS);
		if (!trimmed) {
			// The start of the newest page allows the next trim.
			void this.sync().catch(() => {});
			return turns;
		}
		this.earlierCursor.value = trimmed.cursor;
		return trimmed.turns;
	}

	/** Retries a turn; the new turn takes its place. */
	async retry(turn: string) {
		try {
			const started = await this.#ports.api.retry(turn, randomId());
			this.#ports.publish({ kind: "changed", conversation: started.conversation });
			if (this.#isClosed) {
				started.stream.close();
				return;
			}
			this.#revision++;
			const retry = emptyTurn(started.turn, started.status, turn);
			this.#setTurns(replaceByRetry(this.#currentTurns(), turn, retry));
			this.#followNext(started);
		} catch (error) {
			this.#ports.notify(`Not retried. ${errorText(error)}`, { tone: "error" });
			// Another tab or browser may have retried the turn.
			void this.sync().catch(() => {});
		}
	}

	/** Follows the first unfinished turn unless a turn is followed already. */
	#followNext(started?: StartedTurn) {
		const next = this.#followed ? undefined : firstUnfinished(this.#currentTurns());
		const stream = started?.turn === next?.id ? started?.stream : undefined;
		if (!stream) started?.stream.close();
		if (!next) return;
		const shown = this.turns.peek().find((turn) => turn.peek().id === next.id)!;
		const live = new LiveTurn(shown, this.#ports.schedule);
		this.isConnected.value = true;
		const stop = this.#ports.api.follow(
			next.id,
			{
				onEvent: (event) => this.#applyEvent(live, event),
				onConnectionChange: (connected) => this.#setConnected(connected),
				onGone: () => {
					this.#followed = undefined;
					if (!this.#isClosed) void this.load();
				},
			},
			stream,
		);
		this.#followed = { live, stop };
	}

	#stopFollowing() {
		this.#followed?.stop();
		this.#followed = undefined;
	}

	#applyEvent(live: LiveTurn, event: TurnEvent) {
		live.apply(event);
		if (event.name === "done" || event.name === "error") this.#endFollowing(live.shown.peek());
	}

	#endFollowing(turn: Turn) {
		this.#followed = undefined;
		this.#revision++;
		this.isConnected.value = true;
		const id = this.id.peek();
		if (id) this.#ports.list.clearBusy(id);
		this.#ports.announce(endAnnouncement(turn, this.#ports.agentName()));
		this.#followNext();
		void this.#ports.refresh().catch(() => {});
	}

	#setConnected(connected: boolean) {
		if (this.isConnected.peek() && !connected)
			this.#ports.announce("The connection is lost. Trying again.");
		this.isConnected.value = connected;
	}

	#currentTurns(): Turns {
		return this.turns.peek().map((turn) => turn.peek());
	}

	/** Shows these turns. A turn that is known keeps its signal. */
	#setTurns(turns: Turns) {
		const known = new Map(this.turns.peek().map((turn) => [turn.peek().id, turn]));
		this.turns.value = turns.map((turn) => {
			const shown = known.get(turn.id);
			if (!shown) return signal(turn);
			shown.value = turn;
			return shown;
		});
	}

	#recordPageStart(page: MessageList) {
		const first = page.messages[0];
		if (first) this.#pageStarts.set(first.turn_id, page.previous_cursor ?? undefined);
	}
}

function loadTrouble(error: unknown): { text: string; isGone: boolean } {
	const isGone =
		error instanceof ApiError &&
		(error.problem.status === 404 || error.problem.code === "invalid_request");
	const text = isGone
		? "There is no such conversation. It may have been deleted."
		: errorText(error);
	return { text, isGone };
}
