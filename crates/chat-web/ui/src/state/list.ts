import { batch, computed, signal } from "@preact/signals";
import { api, Refused } from "../api/client";
import type { Conversation } from "../api/types";
import { tell } from "./notices";
import { tellTabs } from "./tabs";

/** The user's conversations, the last active first, as far as they were read. */
export const conversations = signal<Conversation[]>([]);
export const listTrouble = signal<string | null>(null);
/** Whether the list was read at all. */
export const listed = signal(false);
const more = signal<string | undefined>(undefined);
export const hasMore = computed(() => more.value !== undefined);
/** Conversations whose answer was being written when they were last looked at. */
export const busy = signal<ReadonlySet<string>>(new Set());
/** Deleted here, and not yet on the server: this can be undone. */
const leaving = signal<ReadonlyMap<string, ReturnType<typeof setTimeout>>>(new Map());

export const shown = computed(() =>
	conversations.value.filter((conversation) => !leaving.value.has(conversation.id)),
);

const PAGE = 100;
const NEWEST = 30;
/** How long a deletion can be undone. */
const UNDO = 7_000;

const newestFirst = (one: Conversation, other: Conversation) =>
	one.updated_at === other.updated_at
		? one.id < other.id
			? 1
			: -1
		: one.updated_at < other.updated_at
			? 1
			: -1;

const without = (id: string) =>
	conversations.peek().filter((conversation) => conversation.id !== id);

export function put(conversation: Conversation) {
	conversations.value = [...without(conversation.id), conversation].sort(newestFirst);
}

export function forget(id: string) {
	conversations.value = without(id);
	setBusy(id, false);
}

export function setBusy(id: string, yes: boolean) {
	if (busy.peek().has(id) === yes) return;
	const next = new Set(busy.peek());
	if (yes) next.add(id);
	else next.delete(id);
	busy.value = next;
}

export const sentence = (error: unknown) =>
	error instanceof Refused
		? error.problem.detail
		: error instanceof Error
			? error.message
			: String(error);

/** How often the list was read again. What was asked for before belongs to no list any more. */
let readings = 0;

/** Reads the list again. */
export async function loadList() {
	const mine = ++readings;
	try {
		const page = await api.conversations(PAGE);
		if (mine !== readings) return;
		batch(() => {
			conversations.value = page.conversations;
			more.value = page.next_cursor;
			listTrouble.value = null;
			listed.value = true;
		});
	} catch (error) {
		if (mine === readings) listTrouble.value = sentence(error);
	}
}

let loadingMore: Promise<void> | undefined;

/** Reads one page more of the list. */
export function loadMore(): Promise<void> {
	loadingMore ??= nextPage(readings).finally(() => {
		loadingMore = undefined;
	});
	return loadingMore;
}

async function nextPage(mine: number) {
	try {
		const page = await api.conversations(PAGE, more.peek());
		if (mine !== readings) return;
		const known = new Set(conversations.peek().map((conversation) => conversation.id));
		const fresh = page.conversations.filter((conversation) => !known.has(conversation.id));
		batch(() => {
			conversations.value = [...conversations.peek(), ...fresh].sort(newestFirst);
			more.value = page.next_cursor;
		});
	} catch (error) {
		if (mine !== readings) return;
		listTrouble.value = sentence(error);
		more.value = undefined;
	}
}

/** Reads the list to its end. */
export async function loadRest() {
	while (hasMore.peek()) await loadMore();
}

/** Reads what changed last, and says which conversations did. What should be among them and is not was deleted. */
export async function refreshList(): Promise<Conversation[]> {
	if (!listed.peek()) {
		await loadList();
		return conversations.peek();
	}
	const page = await api.conversations(NEWEST);
	const before = new Map(
		conversations.peek().map((conversation) => [conversation.id, conversation]),
	);
	const changed = page.conversations.filter((now) => {
		const old = before.get(now.id);
		return !old || old.updated_at !== now.updated_at || old.title !== now.title;
	});
	if (page.next_cursor && changed.length === page.conversations.length) {
		// More than a page of them changed.
		await loadList();
		return conversations.peek();
	}
	const last = page.conversations.at(-1);
	const fresh = new Set(page.conversations.map((conversation) => conversation.id));
	const rest = conversations
		.peek()
		.filter((old) => !fresh.has(old.id) && page.next_cursor && last && newestFirst(last, old) < 0);
	if (
		changed.length > 0 ||
		rest.length + page.conversations.length !== conversations.peek().length
	) {
		conversations.value = [...page.conversations, ...rest];
	}
	for (const { id } of changed) setBusy(id, false);
	return changed;
}

export async function rename(id: string, title: string) {
	const before = conversations.peek().find((conversation) => conversation.id === id);
	const wanted = title.trim();
	if (!before || wanted === "" || wanted === before.title) return;
	put({ ...before, title: wanted });
	try {
		put(await api.rename(id, wanted));
		tellTabs({ kind: "changed", conversation: id });
	} catch (error) {
		put(before);
		tell(`Not renamed. ${sentence(error)}`, { tone: "error" });
	}
}

/** Deletes a conversation, after a while in which this can be undone. */
export function remove(id: string, undone: () => void) {
	const title = conversations.peek().find((conversation) => conversation.id === id)?.title ?? "";
	const timer = setTimeout(() => void deleteNow(id), UNDO);
	leaving.value = new Map(leaving.peek()).set(id, timer);
	const undo = () => {
		clearTimeout(timer);
		keep(id);
		undone();
	};
	tell(`“${title}” is deleted.`, { action: { label: "Undo", run: undo } }, UNDO - 500);
}

function keep(id: string) {
	const rest = new Map(leaving.peek());
	rest.delete(id);
	leaving.value = rest;
}

async function deleteNow(id: string) {
	try {
		await api.delete(id);
		forget(id);
		tellTabs({ kind: "deleted", conversation: id });
	} catch (error) {
		if (error instanceof Refused && error.problem.status === 404) forget(id);
		else tell(`Not deleted. ${sentence(error)}`, { tone: "error" });
	}
	keep(id);
}

// Whoever closes the page does not undo any more.
addEventListener("pagehide", () => {
	for (const [id, timer] of leaving.peek()) {
		clearTimeout(timer);
		void deleteNow(id);
	}
});
