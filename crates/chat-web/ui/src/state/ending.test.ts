import { expect, test } from "vitest";
import { endings } from "./ending";
import { emptyTurn } from "./turn";

const completed = emptyTurn("t", "completed");

test("an answer that is whole needs no words", () => {
	expect(endings(completed)).toEqual([]);
	expect(endings({ ...completed, finishReason: "complete", leftOut: 0 })).toEqual([]);
	expect(endings({ ...completed, finishReason: "from_a_later_server" })).toEqual([]);
});

test("what is missing is said", () => {
	expect(endings({ ...completed, finishReason: "length" })).toEqual([
		"The answer was cut off at the model\u2019s limit.",
	]);
	expect(endings({ ...completed, finishReason: "content_filter" })).toEqual([
		"A content filter withheld the rest of the answer.",
	]);
	expect(endings({ ...completed, leftOut: 1 })[0]).toMatch(
		/oldest message and answer were left out/,
	);
	expect(endings({ ...completed, leftOut: 12 })[0]).toMatch(/oldest 12 messages/);
	expect(endings({ ...completed, finishReason: "length", leftOut: 12 })).toHaveLength(2);
});

test("a turn that was stopped or failed says so itself", () => {
	expect(
		endings({ ...completed, status: "cancelled", finishReason: "length", leftOut: 12 }),
	).toEqual([]);
});
