import { failure } from "./failure";
import { withoutReasoning } from "./reasoning";
import { answerText, type Turn } from "./turn";

const MAX_LENGTH = 600;

/** The text that screen readers read aloud at the end of a turn. */
export function endAnnouncement(turn: Turn, agentName: string): string {
	if (turn.status === "cancelled") return "The answer was stopped.";
	if (turn.status === "failed") {
		const { description, advice } = failure(turn, agentName);
		return `${description} ${advice}`;
	}
	return `${agentName} answered. ${spokenText(turn)}`;
}

/** The beginning of an answer without Markdown's punctuation, which screen readers would read. */
const spokenText = (turn: Turn) =>
	withoutReasoning(answerText(turn))
		.replace(/[#*_`>|]/g, "")
		.trim()
		.slice(0, MAX_LENGTH);
