import type { Turn } from "./turn";

/** Sentences for people: what is missing in the answer of a turn that completed, and what was not read for it. */
export function endings(turn: Turn): string[] {
	if (turn.status !== "completed") return [];
	const sentences: string[] = [];
	if (turn.finishReason === "length")
		sentences.push("The answer was cut off at the model\u2019s limit.");
	if (turn.finishReason === "content_filter")
		sentences.push("A content filter withheld the rest of the answer.");
	if (turn.leftOut === 1)
		sentences.push(
			"The conversation is too long to read as a whole: its oldest message and answer were left out.",
		);
	if (turn.leftOut && turn.leftOut > 1) {
		sentences.push(
			`The conversation is too long to read as a whole: its oldest ${turn.leftOut} messages and their answers were left out.`,
		);
	}
	return sentences;
}
