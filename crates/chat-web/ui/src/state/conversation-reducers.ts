import { isUnfinished, type Turn } from "./turn";

/*
 * Pure changes of the turns of a conversation, the oldest first. A turn that does not change keeps
 * its identity, so that only changed turns are drawn again.
 */
export type Turns = readonly Turn[];

/** The cursor of the page before each page that was read, by the first turn of the page. */
export type PageStarts = ReadonlyMap<string, string | undefined>;

/** Combines two versions of a turn. A page may hold only one of the turn's two messages. */
export function mergeTurn(older: Turn, newer: Turn): Turn {
	return {
		...newer,
		question: newer.question ?? older.question,
		parts: newer.parts.length > 0 ? newer.parts : older.parts,
	};
}

export interface MergedPage {
	turns: Turns;
	/** Whether the page continues the turns known before. Otherwise it replaces them. */
	isContiguous: boolean;
}

/**
 * Merges the newest page into the known turns. Known turns before the page stay; those within it
 * that the page does not have were superseded or deleted. The turn with the id `followed` keeps its
 * known version: its event stream is ahead of the page.
 */
export function mergeNewestPage(known: Turns, page: Turns, followed: string | null): MergedPage {
	const start = known.findIndex((turn) => turn.id === page[0]?.id);
	const byId = new Map(known.map((turn) => [turn.id, turn]));
	const merged = page.map((turn) => {
		const old = byId.get(turn.id);
		if (!old) return turn;
		return turn.id === followed ? old : mergeTurn(old, turn);
	});
	return {
		turns: [...known.slice(0, Math.max(0, start)), ...merged],
		isContiguous: start >= 0,
	};
}

/** Puts a page of earlier turns before the known ones. Both may have a part of the same turn. */
export function prependPage(known: Turns, page: Turns): Turns {
	const [first, ...rest] = known;
	const last = page.at(-1);
	if (!first || !last || first.id !== last.id) return [...page, ...known];
	return [...page.slice(0, -1), mergeTurn(last, first), ...rest];
}

/** Appends a turn unless it is known. */
export function appendTurn(known: Turns, turn: Turn): Turns {
	return known.some(({ id }) => id === turn.id) ? known : [...known, turn];
}

/** Replaces a turn by the turn that retries it. The retry answers the same question. */
export function replaceByRetry(known: Turns, retried: string, retry: Turn): Turns {
	const index = known.findIndex(({ id }) => id === retried);
	const question = known[index]?.question ?? null;
	return [...known.slice(0, Math.max(0, index)), { ...retry, question }];
}

/** The running turn, or else the first queued one. */
export const firstUnfinished = (turns: Turns): Turn | null => turns.find(isUnfinished) ?? null;

/**
 * The turns from the start of the last page that leaves at least `keep` turns, and the cursor of
 * the page before; `null` if no page starts at a turn that allows this.
 */
export function trimToRecentPage(
	turns: Turns,
	starts: PageStarts,
	keep: number,
): { turns: Turns; cursor: string | undefined } | null {
	const index = turns.slice(0, -keep).findLastIndex(({ id }) => starts.has(id));
	const first = turns[index];
	if (!first || index === 0) return null;
	return { turns: turns.slice(index), cursor: starts.get(first.id) };
}
