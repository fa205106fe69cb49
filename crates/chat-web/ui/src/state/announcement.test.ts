import { expect, test } from "vitest";
import { endAnnouncement } from "./announcement";
import { emptyTurn } from "./turn";

test("an answer is announced without Markdown and reasoning", () => {
	const turn = {
		...emptyTurn("t", "completed"),
		parts: [{ type: "text" as const, text: "<think>Hm.</think>\n**Yes**, `so`." }],
	};
	expect(endAnnouncement(turn, "Atlas")).toBe("Atlas answered. Yes, so.");
});

test("a stopped and a failed turn are announced as such", () => {
	expect(endAnnouncement(emptyTurn("t", "cancelled"), "Atlas")).toBe("The answer was stopped.");
	expect(endAnnouncement(emptyTurn("t", "failed"), "Atlas")).toBe(
		"Atlas could not answer. Your message is saved. Try again.",
	);
});
