import type { Turn } from "./turn";

/** What happened, in front of which stands who answers, and what to do now, by the code of a failed turn (`docs/errors.md`). */
const FAILURES: Record<string, [happened: string, advice: string]> = {
	agent_timeout: [
		"took too long to answer.",
		"Your message is saved; try again, or send another one.",
	],
	agent_unavailable: ["was not available.", "Your message is saved; try again in a few seconds."],
	agent_misconfigured: [
		"is not set up correctly.",
		"Your message is saved; tell the operator, and try again when that is mended.",
	],
	agent_overloaded: ["had too much to do.", "Your message is saved; try again in a few seconds."],
	agent_protocol_error: [
		"and this server did not understand each other.",
		"Your message is saved; try again, and tell the operator if that does not help.",
	],
	context_too_long: [
		"cannot read a message as long as this.",
		"Your message is saved; send a shorter one, or ask for less at once.",
	],
	agent_refused: ["may not answer this.", "Your message is saved; go on with another one."],
	agent_empty_answer: [
		"gave an empty answer.",
		"Your message is saved; try again, and tell the operator if that does not help.",
	],
	step_limit: [
		"needed more steps than allowed.",
		"Your message and all work done are saved; ask for less at once.",
	],
	turn_timeout: [
		"took longer than allowed.",
		"Your message and all work done are saved; try again, or ask for less at once.",
	],
	internal: [
		"could not answer, because the server could not read or store a part of this chat.",
		"Your message is saved; try again, and tell the operator if that does not help.",
	],
	too_many_attempts: [
		"was interrupted again and again.",
		"Your message is saved; go on with another one, and tell the operator.",
	],
};
const OTHER = ["could not answer.", "Your message is saved; try again."] as const;

/** Sentences for people: what happened to a turn that failed, and what to do. */
export function failure(turn: Turn, name: string): { happened: string; advice: string } {
	const [happened, advice] = FAILURES[turn.error?.code ?? ""] ?? OTHER;
	return { happened: `${name} ${happened}`, advice };
}
