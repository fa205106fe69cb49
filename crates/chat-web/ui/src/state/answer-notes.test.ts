import { expect, test } from "vitest";
import type { FinishReason } from "../api/types";
import { answerNotes } from "./answer-notes";
import { emptyTurn } from "./turn";

const completed = emptyTurn("t", "completed");

test("a complete answer has no notes", () => {
	expect(answerNotes(completed)).toEqual([]);
	expect(answerNotes({ ...completed, finishReason: "complete", turnsLeftOut: 0 })).toEqual([]);
	expect(answerNotes({ ...completed, finishReason: "unknown_reason" as FinishReason })).toEqual([]);
});

test("a cut-off answer and left-out messages have a note each", () => {
	expect(answerNotes({ ...completed, finishReason: "length" })).toEqual([
		"The answer was cut off at the model\u2019s limit.",
	]);
	expect(answerNotes({ ...completed, finishReason: "content_filter" })).toEqual([
		"A content filter withheld the rest of the answer.",
	]);
	expect(answerNotes({ ...completed, turnsLeftOut: 1 })[0]).toMatch(
		/oldest message and answer were left out/,
	);
	expect(answerNotes({ ...completed, turnsLeftOut: 12 })[0]).toMatch(/oldest 12 messages/);
	expect(answerNotes({ ...completed, finishReason: "length", turnsLeftOut: 12 })).toHaveLength(2);
});

test("a turn that was stopped has no notes", () => {
	expect(
		answerNotes({ ...completed, status: "cancelled", finishReason: "length", turnsLeftOut: 12 }),
	).toEqual([]);
});
