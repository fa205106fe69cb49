import { signal } from "@preact/signals";
import { randomId } from "../session/random-id";
import type { KeyValueStore } from "../session/storage";
import type { TabIdentity } from "../session/tab-identity";

/** A message that the server has not acknowledged. */
export interface Draft {
	text: string;
	/** The idempotency key that the message is sent with. */
	key: string;
}

/** A draft is being written; a message in the outbox is being sent. */
type Kind = "draft" | "outbox";
const KINDS = ["outbox", "draft"] as const;

interface StoredDraft extends Draft {
	/** Whether its tab was closed: then another tab may adopt it. */
	left: boolean;
	/** When it was stored, in milliseconds since 1970. */
	at: number;
}

/** A tab that closed without notice is treated as closed after this time, in milliseconds. */
const ABANDONED_AFTER = 24 * 60 * 60 * 1_000;

export interface DraftStorePorts {
	storage: KeyValueStore;
	tab: TabIdentity;
	/** The id of the current user; each user has drafts of their own. */
	userId: () => string;
	/** The time in milliseconds since 1970. */
	now: () => number;
}

/**
 * Keeps drafts and the outbox, by conversation, through reloads and sign-ins until the server has
 * acknowledged the message.
 *
 * All tabs share the draft of a conversation. Each tab has its own draft of a new conversation
 * (`null`); when the tab is closed, another tab adopts that draft.
 */
export class DraftStore {
	/** Changes whenever something other than the composer of this tab changes a draft. */
	readonly revision = signal(0);
	#ports: DraftStorePorts;
	#cache = new Map<string, Draft>();
	/** The text in storage when this tab last read or wrote it, by name. */
	#lastStored = new Map<string, string>();
	/** The kinds not yet copied from the tab that this tab was duplicated from. */
	#uncopied = new Set<Kind>(KINDS);

	constructor(ports: DraftStorePorts) {
		this.#ports = ports;
	}

	draftOf(conversation: string | null): Draft | null {
		return this.#get(this.#nameOf("draft", conversation));
	}

	/** Saves a draft. Another text is another message with a key of its own. */
	save(conversation: string | null, text: string): Draft {
		const old = this.draftOf(conversation);
		const draft = old?.text === text ? old : { text, key: randomId() };
		this.#set(this.#nameOf("draft", conversation), text === "" ? null : draft);
		return draft;
	}

	/** Saves a draft that was not typed into the composer. */
	replace(conversation: string | null, text: string) {
		this.save(conversation, text);
		this.revision.value++;
	}

	outboxOf(conversation: string | null): Draft | null {
		return this.#get(this.#nameOf("outbox", conversation));
	}

	moveToOutbox(conversation: string | null, draft: Draft) {
		this.#set(this.#nameOf("outbox", conversation), draft);
		if (this.draftOf(conversation)?.key === draft.key)
			this.#set(this.#nameOf("draft", conversation), null);
	}

	/** Removes the message in the outbox: the server has stored it. */
	acknowledge(conversation: string | null) {
		const sent = this.outboxOf(conversation);
		this.#set(this.#nameOf("outbox", conversation), null);
		if (!sent || conversation !== null) return;
		// A tab that this one was duplicated from, or the duplicate, holds a copy of the message.
		for (const name of KINDS.flatMap((kind) => this.#otherTabs(kind)))
			if (parse(this.#ports.storage.get(name))?.key === sent.key)
				this.#ports.storage.set(name, null);
	}

	/** Moves the draft of a new conversation to the conversation that it has become. */
	assignNewDraft(conversation: string) {
		const draft = this.draftOf(null);
		if (!draft) return;
		this.#set(this.#nameOf("draft", null), null);
		this.#set(this.#nameOf("draft", conversation), draft);
	}

	/** Turns an unsent message back into a draft, before the text written since. */
	restore(conversation: string | null) {
		const unsent = this.outboxOf(conversation);
		if (!unsent) return;
		const draft = this.draftOf(conversation);
		this.#set(this.#nameOf("outbox", conversation), null);
		this.#set(
			this.#nameOf("draft", conversation),
			draft ? { text: `${unsent.text}\n\n${draft.text}`, key: randomId() } : unsent,
		);
		this.revision.value++;
	}

	/** Adopts drafts of a new conversation that closed tabs left, unless this tab has its own. */
	adopt() {
		for (const kind of KINDS) {
			const own = this.#nameOf(kind, null);
			if (this.#get(own)) continue;
			const [newest] = this.#otherTabs(kind)
				.flatMap((name) => {
					const draft = parse(this.#ports.storage.get(name));
					return draft && this.#isAbandoned(kind, name, draft) ? [{ name, draft }] : [];
				})
				.sort((one, other) => other.draft.at - one.draft.at);
			if (!newest) continue;
			this.#set(own, withoutMetadata(newest.draft));
			this.#ports.storage.set(newest.name, null);
		}
	}

	/** Marks the drafts of a new conversation as left by a closing tab. */
	markLeft() {
		this.#rewriteNewDrafts({ left: true });
	}

	/** Reverts `markLeft`: the browser has restored the tab. */
	unmarkLeft() {
		this.#rewriteNewDrafts({ left: false });
	}

	#rewriteNewDrafts({ left }: { left: boolean }) {
		for (const kind of KINDS) {
			const name = this.#nameOf(kind, null);
			const draft = this.#get(name);
			if (draft) this.#write(name, draft, left);
		}
	}

	/** Applies a change that another tab made to the storage. */
	receiveChange(name: string | null, value: string | null) {
		if (!name?.startsWith(`chat.draft.${this.#ports.userId()}.`)) return;
		if (name.startsWith(this.#newNames("draft"))) return;
		const own = this.#cache.get(name)?.text ?? this.#lastStored.get(name) ?? "";
		const isUnchanged = own === (this.#lastStored.get(name) ?? "");
		const other = parse(value);
		if (isUnchanged || own === other?.text) {
			this.#cache.delete(name);
			if (other) this.#cache.set(name, withoutMetadata(other));
			this.#lastStored.set(name, other?.text ?? "");
		} else if (other) {
			this.#set(name, { text: merged(own, other.text), key: randomId() });
		}
		this.revision.value++;
	}

	#newNames(kind: Kind): string {
		return `chat.${kind}.${this.#ports.userId()}.new`;
	}

	#nameOf(kind: Kind, conversation: string | null): string {
		return conversation === null
			? `${this.#newNames(kind)}.${this.#ports.tab.name}`
			: `chat.${kind}.${this.#ports.userId()}.${conversation}`;
	}

	/** The names of the drafts of a new conversation in other tabs. */
	#otherTabs(kind: Kind): string[] {
		const [prefix, own] = [this.#newNames(kind), this.#nameOf(kind, null)];
		return this.#ports.storage
			.keys()
			.filter((name) => name !== own && (name === prefix || name.startsWith(`${prefix}.`)));
	}

	#isAbandoned(kind: Kind, name: string, draft: StoredDraft): boolean {
		return (
			draft.left || name === this.#newNames(kind) || draft.at < this.#ports.now() - ABANDONED_AFTER
		);
	}

	#get(name: string): Draft | null {
		const cached = this.#cache.get(name);
		if (cached) return cached;
		const stored = parse(this.#ports.storage.get(name)) ?? this.#copyOfDuplicate(name);
		if (!stored) return null;
		const draft = withoutMetadata(stored);
		this.#lastStored.set(name, draft.text);
		this.#cache.set(name, draft);
		return draft;
	}

	/** Returns, once, the draft in the tab that this tab was duplicated from. */
	#copyOfDuplicate(name: string): StoredDraft | null {
		const kind = [...this.#uncopied].find((one) => name === this.#nameOf(one, null));
		if (!kind) return null;
		this.#uncopied.delete(kind);
		const { duplicateOf } = this.#ports.tab;
		if (duplicateOf === null) return null;
		return parse(this.#ports.storage.get(`${this.#newNames(kind)}.${duplicateOf}`));
	}

	#set(name: string, draft: Draft | null) {
		if (draft) this.#cache.set(name, draft);
		else this.#cache.delete(name);
		this.#lastStored.set(name, draft?.text ?? "");
		if (draft) this.#write(name, draft, false);
		else this.#ports.storage.set(name, null);
	}

	#write(name: string, draft: Draft, left: boolean) {
		const stored: StoredDraft = { ...draft, at: this.#ports.now(), left };
		this.#ports.storage.set(name, JSON.stringify(stored));
	}
}

/** Connects a store to the browser: changes by other tabs, and the closing of this one. */
export function watchDrafts(drafts: DraftStore) {
	addEventListener("storage", (event) => drafts.receiveChange(event.key, event.newValue));
	addEventListener("pagehide", () => drafts.markLeft());
	addEventListener("pageshow", () => drafts.unmarkLeft());
}

/** Reads a stored draft; `null` for anything else that the storage may hold. */
function parse(text: string | null): StoredDraft | null {
	try {
		const value: unknown = JSON.parse(text ?? "null");
		if (typeof value === "object" && value !== null && "text" in value && "key" in value) {
			const { left, at } = value as { left?: unknown; at?: unknown };
			return {
				text: String(value.text),
				key: String(value.key),
				left: left === true,
				at: typeof at === "number" ? at : 0,
			};
		}
	} catch {
		// Another script of this origin may have written there.
	}
	return null;
}

const withoutMetadata = ({ text, key }: Draft): Draft => ({ text, key });

/** Joins two texts, unless one contains the other. */
function merged(own: string, other: string): string {
	if (own.includes(other)) return own;
	return other.includes(own) ? other : `${own}\n\n${other}`;
}
