import type { Turn } from "./turn";

/**
 * Sentences about a completed answer that is cut off, or for which the agent did not read all
 * messages.
 */
export function answerNotes(turn: Turn): string[] {
	if (turn.status !== "completed") return [];
	const sentences: string[] = [];
	if (turn.finishReason === "length")
		sentences.push("The answer was cut off at the model\u2019s limit.");
	if (turn.finishReason === "content_filter")
		sentences.push("A content filter withheld the rest of the answer.");
	if (turn.turnsLeftOut === 1)
		sentences.push(
			"The conversation is too long for the agent: its oldest message and answer were left out.",
		);
	if (turn.turnsLeftOut && turn.turnsLeftOut > 1) {
		sentences.push(
			`The conversation is too long for the agent: its oldest ${turn.turnsLeftOut} messages and their answers were left out.`,
		);
	}
	return sentences;
}
