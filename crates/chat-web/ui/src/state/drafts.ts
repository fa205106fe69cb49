import { signal } from "@preact/signals";
import { userId } from "../session/session";
import { store, stored } from "../session/storage";
import { tab } from "../session/tab";
import { unique } from "../session/unique";

/** A message that the server has not acknowledged. */
export interface Draft {
	text: string;
	/** The key it is sent with: if it did reach the server, sending it once more sends nothing twice. */
	key: string;
}

/*
 * What was written, by conversation: the draft is being written, the outbox is on its way. Both are kept through reloads and sign-ins
 * until the server has acknowledged the message. The draft of a conversation is one for all tabs, and follows what is typed in any of
 * them. A new conversation is another one in each tab, and so is its draft; when its tab is closed, the next new conversation has it.
 */
type Kind = "draft" | "outbox";

const kept = new Map<string, Draft>();
/** What storage held when this tab last read or wrote it. */
const common = new Map<string, string>();
/** Counts the changes of drafts that other tabs made. */
export const draftsFromElsewhere = signal(0);

const newNames = (kind: Kind) => `chat.${kind}.${userId()}.new`;
const nameOf = (kind: Kind, conversation: string | null) =>
	conversation === null
		? `${newNames(kind)}.${tab.name}`
		: `chat.${kind}.${userId()}.${conversation}`;

interface Stored extends Draft {
	/** Its tab was closed: any other may take it. */
	left?: boolean;
	at?: number;
}

function parse(text: string | null): Stored | null {
	try {
		const read: unknown = JSON.parse(text ?? "null");
		if (typeof read === "object" && read !== null && "text" in read && "key" in read) {
			const { left, at } = read as { left?: unknown; at?: unknown };
			return {
				text: String(read.text),
				key: String(read.key),
				left: left === true,
				at: typeof at === "number" ? at : 0,
			};
		}
	} catch {
		// Not one of ours.
	}
	return null;
}

const bare = (draft: Draft | null): Draft | null => draft && { text: draft.text, key: draft.key };

const uncopied = new Set<Kind>(["draft", "outbox"]);

/** What the tab that this one was duplicated from had written, once. */
function copied(name: string): Stored | null {
	for (const kind of uncopied) {
		if (name !== nameOf(kind, null)) continue;
		uncopied.delete(kind);
		return tab.copied === null ? null : parse(stored(`${newNames(kind)}.${tab.copied}`));
	}
	return null;
}

function get(name: string): Draft | null {
	const known = kept.get(name);
	if (known) return known;
	const read = bare(parse(stored(name)) ?? copied(name));
	if (!read) return null;
	common.set(name, read.text);
	kept.set(name, read);
	return read;
}

function put(name: string, draft: Draft | null) {
	if (draft) kept.set(name, draft);
	else kept.delete(name);
	common.set(name, draft?.text ?? "");
	store(name, draft && JSON.stringify({ ...draft, at: Date.now() }));
}

export const draftOf = (conversation: string | null) => get(nameOf("draft", conversation));

/** Another text is another message, with a key of its own. */
export function keepDraft(conversation: string | null, text: string): Draft {
	const old = draftOf(conversation);
	const draft = old?.text === text ? old : { text, key: unique() };
	put(nameOf("draft", conversation), text === "" ? null : draft);
	return draft;
}

export const outboxOf = (conversation: string | null) => get(nameOf("outbox", conversation));

export function toOutbox(conversation: string | null, draft: Draft) {
	put(nameOf("outbox", conversation), draft);
	if (draftOf(conversation)?.key === draft.key) put(nameOf("draft", conversation), null);
}

export function acknowledged(conversation: string | null) {
	const sent = outboxOf(conversation);
	put(nameOf("outbox", conversation), null);
	if (!sent || conversation !== null) return;
	// A copy of it, of the tab that this one was duplicated from, has been sent with it.
	for (const kind of ["draft", "outbox"] as const) {
		for (const name of others(kind)) if (parse(stored(name))?.key === sent.key) store(name, null);
	}
}

/** What was written for a conversation that was new belongs to what that has become. */
export function begunAs(conversation: string) {
	const draft = draftOf(null);
	if (!draft) return;
	put(nameOf("draft", null), null);
	put(nameOf("draft", conversation), draft);
}

/** What could not be sent is a draft again, before whatever was written since. */
export function giveBack(conversation: string | null) {
	const back = outboxOf(conversation);
	if (!back) return;
	const since = draftOf(conversation);
	put(nameOf("outbox", conversation), null);
	put(
		nameOf("draft", conversation),
		since ? { text: `${back.text}\n\n${since.text}`, key: unique() } : back,
	);
}

// --- other tabs ------------------------------------------------------------------------------------------------------

/** The names of what other tabs wrote for a new conversation. */
function others(kind: Kind): string[] {
	const [names, mine] = [newNames(kind), nameOf(kind, null)];
	try {
		return Object.keys(localStorage).filter(
			(name) => name !== mine && (name === names || name.startsWith(`${names}.`)),
		);
	} catch {
		return [];
	}
}

/** A tab that did not say goodbye is gone for sure after so long, in milliseconds. */
const GONE = 24 * 60 * 60 * 1_000;

/** Takes over what closed tabs left for a new conversation, unless this tab has something of its own. */
export function adopt() {
	for (const kind of ["outbox", "draft"] as const) {
		const mine = nameOf(kind, null);
		if (get(mine)) continue;
		const found = others(kind)
			.flatMap((name) => {
				const draft = parse(stored(name));
				const free =
					draft && (draft.left || name === newNames(kind) || (draft.at ?? 0) < Date.now() - GONE);
				return free ? [{ name, draft }] : [];
			})
			.sort((one, other) => (other.draft.at ?? 0) - (one.draft.at ?? 0))[0];
		if (!found) continue;
		put(mine, bare(found.draft));
		store(found.name, null);
	}
}

/** Both texts, unless one holds the other. */
function merged(mine: string, theirs: string): string {
	if (mine.includes(theirs)) return mine;
	return theirs.includes(mine) ? theirs : `${mine}\n\n${theirs}`;
}

addEventListener("storage", (event) => {
	const name = event.key;
	if (!name?.startsWith(`chat.draft.${userId()}.`) || name.startsWith(newNames("draft"))) return;
	const mine = kept.get(name)?.text ?? common.get(name) ?? "";
	const unchanged = mine === (common.get(name) ?? "");
	const theirs = parse(event.newValue);
	if (unchanged || mine === theirs?.text) {
		kept.delete(name);
		if (theirs) kept.set(name, bare(theirs)!);
		common.set(name, theirs?.text ?? "");
	} else if (theirs) {
		put(name, { text: merged(mine, theirs.text), key: unique() });
	}
	draftsFromElsewhere.value++;
});

const leave = (left: boolean) => () => {
	for (const kind of ["outbox", "draft"] as const) {
		const name = nameOf(kind, null);
		const draft = get(name);
		if (draft) store(name, JSON.stringify({ ...draft, at: Date.now(), left }));
	}
};
addEventListener("pagehide", leave(true));
addEventListener("pageshow", leave(false));
