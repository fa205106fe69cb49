import { describe, expect, test } from "vitest";
import {
	appendTurn,
	firstUnfinished,
	mergeNewestPage,
	mergeTurn,
	prependPage,
	replaceByRetry,
	trimToRecentPage,
} from "./conversation-reducers";
import { answerText, emptyTurn, type Turn } from "./turn";

const question = (id: string) => ({ id: `q-${id}`, text: `Question ${id}`, at: "2026-01-01" });
const turn = (id: string, text = `Answer ${id}`): Turn => ({
	...emptyTurn(id, "completed"),
	question: question(id),
	parts: text === "" ? [] : [{ type: "text", text }],
});
const ids = (turns: readonly Turn[]) => turns.map(({ id }) => id);
const [a, b, c, d] = [turn("a"), turn("b"), turn("c"), turn("d")];

test("a turn whose messages are on two pages gets the question of one and the answer of the other", () => {
	const answerOnly = { ...a, question: null };
	const questionOnly = turn("a", "");
	expect(mergeTurn(questionOnly, answerOnly)).toEqual(a);
	expect(mergeTurn(answerOnly, questionOnly)).toEqual(a);
});

describe("the newest page", () => {
	test("replaces turns from its first turn on and keeps those before", () => {
		const changed = turn("c", "Changed");
		const { turns, isContiguous } = mergeNewestPage([a, b, c], [b, changed, d], null);
		expect(ids(turns)).toEqual(["a", "b", "c", "d"]);
		expect(answerText(turns[2]!)).toBe("Changed");
		expect(turns[0]).toBe(a);
		expect(isContiguous).toBe(true);
	});

	test("removes turns that it does not have any more", () => {
		expect(ids(mergeNewestPage([a, b, c], [a, c], null).turns)).toEqual(["a", "c"]);
	});

	test("leaves the followed turn as it is", () => {
		const { turns } = mergeNewestPage([a, b], [a, turn("b", "Older")], "b");
		expect(turns[1]).toBe(b);
	});

	test("replaces all turns when none of them is on it", () => {
		const merged = mergeNewestPage([a, b], [c, d], null);
		expect([ids(merged.turns), merged.isContiguous]).toEqual([["c", "d"], false]);
	});
});

describe("an earlier page", () => {
	test("comes before the known turns", () => {
		expect(prependPage([c, d], [a, b])).toEqual([a, b, c, d]);
		expect(prependPage([], [a])).toEqual([a]);
		expect(prependPage([a], [])).toEqual([a]);
	});

	test("shares its last turn with the known ones", () => {
		const [known] = prependPage([{ ...b, question: null }, c], [a, turn("b", "")]).slice(1);
		expect(known).toEqual(b);
	});
});

test("a turn is appended once", () => {
	expect(ids(appendTurn([a], b))).toEqual(["a", "b"]);
	const known = [a, b];
	expect(appendTurn(known, turn("b", ""))).toBe(known);
});

test("a retry replaces the turn and everything behind it, and has the same question", () => {
	const retry = emptyTurn("r", "running", "b");
	const turns = replaceByRetry([a, b, c], "b", retry);
	expect(ids(turns)).toEqual(["a", "r"]);
	expect(turns[1]).toMatchObject({ question: b.question, retryOf: "b" });
	expect(replaceByRetry([], "b", retry)).toEqual([retry]);
});

test("the first unfinished turn is the running or the next queued one", () => {
	const [running, queued] = [emptyTurn("x", "running"), emptyTurn("y", "queued")];
	expect(firstUnfinished([a, running, queued])).toBe(running);
	expect(firstUnfinished([a, queued])).toBe(queued);
	expect(firstUnfinished([a, b])).toBeNull();
});

describe("trimming", () => {
	const turns = [a, b, c, d];
	const starts = new Map([
		["a", undefined],
		["b", "before-b"],
		["d", "before-d"],
	]);

	test("cuts at the last page start that leaves enough turns", () => {
		const trimmed = trimToRecentPage(turns, starts, 2);
		expect(trimmed).toEqual({ turns: [b, c, d], cursor: "before-b" });
		expect(trimToRecentPage(turns, starts, 1)).toEqual({ turns: [b, c, d], cursor: "before-b" });
	});

	test("is impossible without such a page start", () => {
		expect(trimToRecentPage(turns, new Map([["a", undefined]]), 2)).toBeNull();
		expect(trimToRecentPage(turns, starts, 3)).toBeNull();
	});
});
