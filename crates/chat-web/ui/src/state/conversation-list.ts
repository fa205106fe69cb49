import { batch, computed, signal } from "@preact/signals";
import { ApiError, errorText } from "../api/client";
import type { Conversation, ConversationList as Page } from "../api/types";
import type { NoticeOptions } from "./notices";
import type { TabMessage } from "./tab-channel";

const PAGE_SIZE = 100;
/** A refresh reads this many of the conversations that changed last. */
const REFRESH_SIZE = 30;
/** How long a deletion can be undone, in milliseconds; its notice disappears a little sooner. */
const UNDO_PERIOD = 7_000;
const UNDO_NOTICE = 6_500;

/** The list's dependencies on the rest of the page. */
export interface ConversationListPorts {
	api: {
		conversations(limit: number, cursor?: string): Promise<Page>;
		rename(id: string, title: string): Promise<Conversation>;
		delete(id: string): Promise<void>;
	};
	notify: (text: string, options?: NoticeOptions) => void;
	/** Reports a change to the other tabs of this browser. */
	publish: (message: TabMessage) => void;
}

type Timer = ReturnType<typeof setTimeout>;

/** The user's conversations, as far as they were read, the last active first. */
export class ConversationList {
	readonly conversations = signal<readonly Conversation[]>([]);
	/** The error of the last attempt to read the list, for users. */
	readonly trouble = signal<string | null>(null);
	readonly isLoaded = signal(false);
	/** Conversations that are not shown and had an unfinished turn when they were last seen. */
	readonly busy = signal<ReadonlySet<string>>(new Set());
	#cursor = signal<string | undefined>(undefined);
	/** Conversations that are hidden here and not deleted on the server yet. */
	#pendingDeletions = signal<ReadonlyMap<string, Timer>>(new Map());
	/** Counts the loads: a page that was requested before the last load is discarded. */
	#generation = 0;
	#loadingMore: Promise<void> | undefined;
	#ports: ConversationListPorts;

	readonly hasMore = computed(() => this.#cursor.value !== undefined);
	/** The conversations without those that are being deleted. */
	readonly visible = computed(() =>
		this.conversations.value.filter(({ id }) => !this.#pendingDeletions.value.has(id)),
	);

	constructor(ports: ConversationListPorts) {
		this.#ports = ports;
	}

	find(id: string | null): Conversation | undefined {
		return this.conversations.value.find((conversation) => conversation.id === id);
	}

	upsert(conversation: Conversation) {
		this.conversations.value = [...this.#without(conversation.id), conversation].sort(newestFirst);
	}

	remove(id: string) {
		this.conversations.value = this.#without(id);
		this.clearBusy(id);
	}

	markBusy(id: string) {
		if (!this.busy.peek().has(id)) this.busy.value = new Set(this.busy.peek()).add(id);
	}

	clearBusy(id: string) {
		if (!this.busy.peek().has(id)) return;
		const rest = new Set(this.busy.peek());
		rest.delete(id);
		this.busy.value = rest;
	}

	/** Reads the beginning of the list and discards everything read before. */
	async load() {
		const generation = ++this.#generation;
		try {
			const page = await this.#ports.api.conversations(PAGE_SIZE);
			if (generation !== this.#generation) return;
			batch(() => {
				this.conversations.value = page.conversations;
				this.#cursor.value = page.next_cursor ?? undefined;
				this.trouble.value = null;
				this.isLoaded.value = true;
			});
		} catch (error) {
			if (generation === this.#generation) this.trouble.value = errorText(error);
		}
	}

	/** Reads one more page. */
	loadMore(): Promise<void> {
		this.#loadingMore ??= this.#loadNextPage().finally(() => {
			this.#loadingMore = undefined;
		});
		return this.#loadingMore;
	}

	async loadAll() {
		while (this.hasMore.peek()) await this.loadMore();
	}

	async #loadNextPage() {
		const generation = this.#generation;
		try {
			const page = await this.#ports.api.conversations(PAGE_SIZE, this.#cursor.peek());
			if (generation !== this.#generation) return;
			const known = new Set(this.conversations.peek().map(({ id }) => id));
			const added = page.conversations.filter(({ id }) => !known.has(id));
			batch(() => {
				this.conversations.value = [...this.conversations.peek(), ...added].sort(newestFirst);
				this.#cursor.value = page.next_cursor ?? undefined;
			});
		} catch (error) {
			if (generation !== this.#generation) return;
			this.trouble.value = errorText(error);
			this.#cursor.value = undefined;
		}
	}

	/**
	 * Reads the conversations that changed last and returns those that changed since the last read.
	 * A conversation that is missing among them was deleted.
	 */
	async refresh(): Promise<readonly Conversation[]> {
		if (!this.isLoaded.peek()) {
			await this.load();
			return this.conversations.peek();
		}
		const page = await this.#ports.api.conversations(REFRESH_SIZE);
		const old = new Map(this.conversations.peek().map((one) => [one.id, one]));
		const changed = page.conversations.filter((conversation) => {
			const before = old.get(conversation.id);
			return before?.updated_at !== conversation.updated_at || before.title !== conversation.title;
		});
		if (page.next_cursor && changed.length === page.conversations.length) {
			// There may be more changes behind this page.
			await this.load();
			return this.conversations.peek();
		}
		this.#replaceNewest(page, changed.length > 0);
		for (const { id } of changed) this.clearBusy(id);
		return changed;
	}

	#replaceNewest(page: Page, hasChanges: boolean) {
		const last = page.conversations.at(-1);
		const fresh = new Set(page.conversations.map(({ id }) => id));
		const rest = this.conversations
			.peek()
			.filter(
				(old) => !fresh.has(old.id) && page.next_cursor && last && newestFirst(last, old) < 0,
			);
		const count = page.conversations.length + rest.length;
		if (hasChanges || count !== this.conversations.peek().length)
			this.conversations.value = [...page.conversations, ...rest];
	}

	/** Renames a conversation, here at once and then on the server. */
	async rename(id: string, title: string) {
		const before = this.conversations.peek().find((conversation) => conversation.id === id);
		const wanted = title.trim();
		if (!before || wanted === "" || wanted === before.title) return;
		this.upsert({ ...before, title: wanted });
		try {
			this.upsert(await this.#ports.api.rename(id, wanted));
			this.#ports.publish({ kind: "changed", conversation: id });
		} catch (error) {
			this.upsert(before);
			this.#ports.notify(`Not renamed. ${errorText(error)}`, { tone: "error" });
		}
	}

	/** Hides a conversation, and deletes it unless the user undoes that in time. */
	delete(id: string, onUndo: () => void) {
		const title = this.conversations.peek().find((one) => one.id === id)?.title ?? "";
		const timer = setTimeout(() => void this.#deleteNow(id), UNDO_PERIOD);
		this.#pendingDeletions.value = new Map(this.#pendingDeletions.peek()).set(id, timer);
		const undo = () => {
			this.undoDelete(id);
			onUndo();
		};
		this.#ports.notify(`“${title}” is deleted.`, {
			action: { label: "Undo", run: undo },
			duration: UNDO_NOTICE,
		});
	}

	undoDelete(id: string) {
		const rest = new Map(this.#pendingDeletions.peek());
		clearTimeout(rest.get(id));
		rest.delete(id);
		this.#pendingDeletions.value = rest;
	}

	/** Deletes on the server everything that was deleted here. A closed page cannot undo. */
	flushDeletions() {
		for (const [id, timer] of this.#pendingDeletions.peek()) {
			clearTimeout(timer);
			void this.#deleteNow(id);
		}
	}

	async #deleteNow(id: string) {
		try {
			await this.#ports.api.delete(id);
			this.remove(id);
			this.#ports.publish({ kind: "deleted", conversation: id });
		} catch (error) {
			if (error instanceof ApiError && error.problem.status === 404) this.remove(id);
			else this.#ports.notify(`Not deleted. ${errorText(error)}`, { tone: "error" });
		}
		this.undoDelete(id);
	}

	#without(id: string) {
		return this.conversations.peek().filter((conversation) => conversation.id !== id);
	}
}

function newestFirst(one: Conversation, other: Conversation): number {
	const byTime = compare(other.updated_at, one.updated_at);
	return byTime === 0 ? compare(other.id, one.id) : byTime;
}

const compare = (one: string, other: string) => (one === other ? 0 : one < other ? -1 : 1);
