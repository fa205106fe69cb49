import type {
	Failure,
	FinishReason,
	Message,
	Outcome,
	ToolCall,
	TurnEvent,
	TurnStatus,
	Usage,
} from "../api/types";

/** A turn as the page shows it: what was asked, and the text and tool calls of the answer in their order. */
export interface Turn {
	id: string;
	status: TurnStatus;
	question: { id: string; text: string; at: string } | null;
	parts: Part[];
	/** When the latest message of the answer was made. */
	answeredAt?: string | undefined;
	endedAt?: string | undefined;
	usage?: Usage | undefined;
	finishReason?: FinishReason | undefined;
	/** How many of the conversation's turns, the oldest ones, the agent did not read. */
	leftOut?: number | undefined;
	error?: Failure | undefined;
	retryOf?: string | undefined;
}

export interface TextPart {
	type: "text";
	/** The message whose text it is; unknown for a turn that was read as a whole. */
	message?: string;
	text: string;
}

export interface CallPart {
	type: "call";
	call: ToolCall;
}

export type Part = TextPart | CallPart;

export const emptyTurn = (id: string, status: TurnStatus, retryOf?: string): Turn => ({
	id,
	status,
	question: null,
	parts: [],
	retryOf,
});

/** The turns of a list of messages. */
export function turnsOf(messages: Message[]): Turn[] {
	const turns = new Map<string, Turn>();
	for (const message of messages) {
		const turn =
			turns.get(message.turn_id) ??
			emptyTurn(message.turn_id, message.turn_status, message.retry_of);
		turns.set(turn.id, turn);
		if (message.error) turn.error = message.error;
		if (message.turn_ended_at) turn.endedAt = message.turn_ended_at;
		if (message.usage) turn.usage = message.usage;
		if (message.finish_reason) turn.finishReason = message.finish_reason;
		if (message.context) turn.leftOut = message.context.turns_left_out;
		if (message.role === "user") {
			turn.question = { id: message.id, text: message.content, at: message.created_at };
			continue;
		}
		turn.parts = partsOf(message);
		turn.answeredAt = message.created_at;
	}
	return [...turns.values()];
}

/** What another version of the server writes in a way that this page does not know is shown by its text alone. */
function partsOf(message: Message): Part[] {
	try {
		return knownParts(message);
	} catch {
		return [{ type: "text", text: String(message.content ?? "") }];
	}
}

function knownParts(message: Message): Part[] {
	if (!message.parts)
		return message.content === "" ? [] : [{ type: "text", text: message.content }];
	const calls = new Map(message.tool_calls.map((call) => [call.id, call]));
	return message.parts.flatMap((part): Part[] => {
		if (part.type === "text") return [{ type: "text", text: part.text }];
		const call = calls.get(part.id);
		return call ? [{ type: "call", call }] : [];
	});
}

/** The turn after one more of its events. */
export function after(turn: Turn, event: TurnEvent): Turn {
	switch (event.name) {
		case "turn":
			return { ...turn, status: event.data.status };
		case "message": {
			const { id, role, content, created_at: at } = event.data;
			const running = running_(turn);
			if (role === "user") return { ...running, question: { id, text: content, at } };
			return { ...running, parts: withText(turn.parts, id, () => content), answeredAt: at };
		}
		case "text": {
			const { message_id: id, delta } = event.data;
			return { ...running_(turn), parts: withText(turn.parts, id, (text) => text + delta) };
		}
		case "discarded":
			return { ...turn, parts: withText(turn.parts, event.data.message_id, () => "") };
		case "tool_call": {
			const { id, tool_name, parameters, created_at: executed_at } = event.data;
			const call: ToolCall = { id, tool_name, parameters, status: "running", executed_at };
			return { ...running_(turn), parts: [...turn.parts, { type: "call", call }] };
		}
		case "tool_result": {
			const { id, ...outcome } = event.data;
			return { ...turn, parts: turn.parts.map((part) => withOutcome(part, id, outcome)) };
		}
		case "done":
			return {
				...turn,
				status: event.data.status,
				endedAt: event.data.ended_at,
				usage: event.data.usage,
				finishReason: event.data.finish_reason,
				leftOut: event.data.context?.turns_left_out,
			};
		case "error":
			return { ...turn, status: "failed", error: { code: event.data.code, message: "" } };
		default:
			// What a later server tells besides is not for this page.
			return turn;
	}
}

/** A queued turn of which something is told runs. */
const running_ = (turn: Turn): Turn =>
	turn.status === "queued" ? { ...turn, status: "running" } : turn;

/** Gives a message another text; one without text is no part. */
function withText(parts: Part[], message: string, change: (text: string) => string): Part[] {
	const at = parts.findIndex((part) => part.type === "text" && part.message === message);
	const old = parts[at];
	const text = change(old?.type === "text" ? old.text : "");
	if (text === "") return at < 0 ? parts : parts.toSpliced(at, 1);
	const part: Part = { type: "text", message, text };
	return at < 0 ? [...parts, part] : parts.with(at, part);
}

function withOutcome(part: Part, id: string, outcome: Outcome): Part {
	return part.type === "call" && part.call.id === id
		? { type: "call", call: { ...part.call, ...outcome } }
		: part;
}

export const isOpen = (turn: Turn) => turn.status === "running" || turn.status === "queued";

/** What the assistant says, as the API gives it. */
export const answerText = (turn: Turn) =>
	turn.parts
		.filter((part) => part.type === "text")
		.map((part) => part.text)
		.join("\n\n");

export type CallState = "waiting" | "running" | "succeeded" | "failed" | "unknown" | "lost";

/**
 * The state of each call of a turn. Of those without a result only so many run at the same time, in their order; the others wait.
 * In a turn that has ended without their results, nobody runs them any more.
 */
export function callStates(turn: Turn, atOnce: number): Map<string, CallState> {
	const states = new Map<string, CallState>();
	let running = 0;
	for (const part of turn.parts) {
		if (part.type !== "call") continue;
		const { id, status } = part.call;
		if (status !== "running") states.set(id, status);
		else if (!isOpen(turn)) states.set(id, "lost");
		else states.set(id, running++ < atOnce ? "running" : "waiting");
	}
	return states;
}
