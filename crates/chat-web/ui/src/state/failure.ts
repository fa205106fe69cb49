import type { Turn } from "./turn";

const SAVED = "Your message is saved";

/**
 * The sentence about a failed turn, without its subject, and the advice, by the code of the failure
 * (`docs/errors.md`).
 */
const FAILURES: Record<string, [predicate: string, advice: string]> = {
	agent_timeout: ["took too long to answer.", `${SAVED}. Try again, or send another message.`],
	agent_unavailable: ["was not available.", `${SAVED}. Try again in a few seconds.`],
	agent_misconfigured: [
		"is not configured correctly.",
		`${SAVED}. Tell the operator, and try again when the configuration is corrected.`,
	],
	agent_overloaded: ["was overloaded.", `${SAVED}. Try again in a few seconds.`],
	agent_protocol_error: [
		"sent an answer that this server cannot read.",
		`${SAVED}. Try again; if that does not help, tell the operator.`,
	],
	context_too_long: [
		"cannot read a message of this length.",
		`${SAVED}. Send a shorter one, or ask for less at once.`,
	],
	agent_refused: ["refused to answer.", `${SAVED}. Continue with another message.`],
	agent_empty_answer: [
		"gave an empty answer.",
		`${SAVED}. Try again; if that does not help, tell the operator.`,
	],
	step_limit: [
		"needed more steps than allowed.",
		"Your message and all completed work are saved. Ask for less at once.",
	],
	turn_timeout: [
		"took longer than allowed.",
		"Your message and all completed work are saved. Try again, or ask for less at once.",
	],
	internal: [
		"could not answer, because the server could not read or store a part of this chat.",
		`${SAVED}. Try again; if that does not help, tell the operator.`,
	],
	too_many_attempts: [
		"was interrupted too often.",
		`${SAVED}. Continue with another message, and tell the operator.`,
	],
};
const OTHER = ["could not answer.", `${SAVED}. Try again.`] as const;

/** Sentences for users about a failed turn: a description of the failure, and advice. */
export function failure(turn: Turn, agentName: string): { description: string; advice: string } {
	const [predicate, advice] = FAILURES[turn.error?.code ?? ""] ?? OTHER;
	return { description: `${agentName} ${predicate}`, advice };
}
