import { computed, type Signal, signal } from "@preact/signals";
import { errorText } from "../api/client";
import type { ConversationList } from "./conversation-list";
import {
	ConversationSession,
	pathOf,
	type SessionApi,
	type SessionPorts,
} from "./conversation-session";
import { isUnfinished } from "./turn";

export interface ChatStorePorts extends Omit<SessionPorts, "api" | "list" | "refresh"> {
	api: SessionApi & { cancel(turn: string): Promise<void> };
	list: ConversationList;
	/** Changes the address of the page with a new entry in its history. */
	pushPath: (path: string) => void;
}

/** The state of the chat: the list of conversations, the drafts, and the conversation shown. */
export class ChatStore {
	readonly list: ConversationList;
	readonly drafts: ChatStorePorts["drafts"];
	readonly activeConversation: Signal<ConversationSession>;
	/** Turns that the server was asked to cancel. A queued one ends when its turn comes. */
	readonly cancelling = signal<ReadonlySet<string>>(new Set());
	#ports: ChatStorePorts;
	#sessionPorts: SessionPorts;

	/** The list's entry of the active conversation. */
	readonly activeEntry = computed(
		() => this.list.find(this.activeConversation.value.id.value) ?? null,
	);
	/** The active conversation's running turn, or else its first queued one. */
	readonly unfinishedTurn = computed(
		() =>
			this.activeConversation.value.turns.value.find((turn) => isUnfinished(turn.value))?.value ??
			null,
	);

	constructor(ports: ChatStorePorts) {
		this.list = ports.list;
		this.drafts = ports.drafts;
		this.#ports = ports;
		this.#sessionPorts = { ...ports, refresh: () => this.refresh() };
		this.activeConversation = signal(new ConversationSession(null, this.#sessionPorts));
	}

	/** Shows a conversation, or with `null` a new one, and changes the address of the page. */
	navigateTo(id: string | null): Promise<void> {
		this.#ports.pushPath(pathOf(id));
		return this.show(id);
	}

	/** Shows a conversation, or with `null` a new one, at the current address of the page. */
	show(id: string | null): Promise<void> {
		const previous = this.activeConversation.peek();
		const previousId = previous.id.peek();
		if (previousId && this.unfinishedTurn.peek()) this.list.markBusy(previousId);
		previous.close();
		const session = new ConversationSession(id, this.#sessionPorts);
		this.activeConversation.value = session;
		return session.start();
	}

	/** Reads the changes of the list, and of the active conversation if it has changed. */
	async refresh() {
		const changed = await this.list.refresh();
		const active = this.activeConversation.peek();
		if (changed.some(({ id }) => id === active.id.peek())) await active.sync();
	}

	/** Stops a running turn, or withdraws a queued one. */
	async cancel(turn: string) {
		try {
			await this.#ports.api.cancel(turn);
			this.cancelling.value = new Set(this.cancelling.peek()).add(turn);
		} catch (error) {
			this.#ports.notify(`Not stopped. ${errorText(error)}`, { tone: "error" });
		}
	}

	/** Deletes a conversation; for a few seconds the user can undo that. */
	delete(id: string) {
		const wasActive = this.activeConversation.peek().id.peek() === id;
		if (wasActive) void this.navigateTo(null);
		this.list.delete(id, () => {
			if (wasActive) void this.navigateTo(id);
		});
	}
}
