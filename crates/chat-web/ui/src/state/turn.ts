import type {
	FinishReason,
	Message,
	ToolCall,
	ToolOutcome,
	TurnError,
	TurnEvent,
	TurnStatus,
	Usage,
} from "../api/types";

/**
 * A turn as the page shows it: the question, and the text and tool calls of the answer in order.
 */
export interface Turn {
	id: string;
	status: TurnStatus;
	question: { id: string; text: string; at: string } | null;
	parts: Part[];
	/** When the latest message of the answer was created. */
	answeredAt?: string | undefined;
	endedAt?: string | undefined;
	usage?: Usage | undefined;
	finishReason?: FinishReason | undefined;
	/** How many of the conversation's oldest turns the agent did not read. */
	turnsLeftOut?: number | undefined;
	error?: TurnError | undefined;
	retryOf?: string | undefined;
}

export interface TextPart {
	type: "text";
	/** The id of the message; unknown for a turn that was read as a whole. */
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

/** Groups a list of messages by turn. */
export function turnsOf(messages: Message[]): Turn[] {
	const turns = new Map<string, Turn>();
	for (const message of messages) {
		const turn =
			turns.get(message.turn_id) ??
			emptyTurn(message.turn_id, message.turn_status, message.retry_of ?? undefined);
		turns.set(turn.id, turn);
		if (message.error) turn.error = message.error;
		if (message.turn_ended_at) turn.endedAt = message.turn_ended_at;
		if (message.usage) turn.usage = message.usage;
		if (message.finish_reason) turn.finishReason = message.finish_reason;
		if (message.context) turn.turnsLeftOut = message.context.turns_left_out;
		if (message.role === "user") {
			turn.question = { id: message.id, text: message.content, at: message.created_at };
			continue;
		}
		turn.parts = partsOf(message);
		turn.answeredAt = message.created_at;
	}
	return [...turns.values()];
}

/** Parts in a form that this version of the page does not know are shown as plain text. */
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

/** Returns the turn after one more of its events. */
export function applyEvent(turn: Turn, event: TurnEvent): Turn {
	switch (event.name) {
		case "turn":
			return { ...turn, status: event.data.status };
		case "message": {
			const { id, role, content, created_at: at } = event.data;
			const running = asRunning(turn);
			if (role === "user") return { ...running, question: { id, text: content, at } };
			return { ...running, parts: withText(turn.parts, id, () => content), answeredAt: at };
		}
		case "text": {
			const { message_id: id, delta } = event.data;
			return { ...asRunning(turn), parts: withText(turn.parts, id, (text) => text + delta) };
		}
		case "discarded":
			return { ...turn, parts: withText(turn.parts, event.data.message_id, () => "") };
		case "tool_call": {
			const { id, tool_name, parameters, created_at: executed_at } = event.data;
			const call: ToolCall = { id, tool_name, parameters, status: "running", executed_at };
			return { ...asRunning(turn), parts: [...turn.parts, { type: "call", call }] };
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
				finishReason: event.data.finish_reason ?? undefined,
				turnsLeftOut: event.data.context?.turns_left_out,
			};
		case "error":
			return { ...turn, status: "failed", error: { code: event.data.code, message: "" } };
		default:
			// A later server may send events that this page does not know.
			return turn;
	}
}

/** A queued turn that produces events is running. */
const asRunning = (turn: Turn): Turn =>
	turn.status === "queued" ? { ...turn, status: "running" } : turn;

/** Changes the text of a message. A message without text has no part. */
function withText(parts: Part[], message: string, change: (text: string) => string): Part[] {
	const index = parts.findIndex((part) => part.type === "text" && part.message === message);
	const old = parts[index];
	const text = change(old?.type === "text" ? old.text : "");
	if (text === "") return index < 0 ? parts : parts.toSpliced(index, 1);
	const part: Part = { type: "text", message, text };
	return index < 0 ? [...parts, part] : parts.with(index, part);
}

function withOutcome(part: Part, id: string, outcome: ToolOutcome): Part {
	return part.type === "call" && part.call.id === id
		? { type: "call", call: { ...part.call, ...outcome } }
		: part;
}

/** Whether the turn is queued or running. */
export const isUnfinished = (turn: Turn) => turn.status === "running" || turn.status === "queued";

/** The text of the answer, joined as the API joins it. */
export const answerText = (turn: Turn) =>
	turn.parts
		.filter((part) => part.type === "text")
		.map((part) => part.text)
		.join("\n\n");

export type CallState = "waiting" | "running" | "succeeded" | "failed" | "unknown" | "lost";

/**
 * The state of each call of a turn. At most `concurrency` calls run at the same time, in order; the
 * others wait. Calls without a result in a turn that has ended are lost.
 */
export function callStates(turn: Turn, concurrency: number): Map<string, CallState> {
	const states = new Map<string, CallState>();
	let running = 0;
	for (const part of turn.parts) {
		if (part.type !== "call") continue;
		const { id, status } = part.call;
		if (status !== "running") states.set(id, status);
		else if (!isUnfinished(turn)) states.set(id, "lost");
		else states.set(id, running++ < concurrency ? "running" : "waiting");
	}
	return states;
}
