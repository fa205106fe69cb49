/** The native API, as `/openapi.json` describes it. */

export type TurnStatus = "queued" | "running" | "completed" | "cancelled" | "failed";
export type CallStatus = "running" | "succeeded" | "failed" | "unknown";

export interface Failure {
	code: string;
	message: string;
}

export interface Usage {
	input_tokens: number;
	output_tokens: number;
}

export interface Outcome {
	status: CallStatus;
	result?: unknown;
	error?: Failure;
	executed_at: string;
	duration_ms?: number;
}

export interface ToolCall extends Outcome {
	id: string;
	tool_name: string;
	parameters: unknown;
}

export type MessagePart = { type: "text"; text: string } | { type: "tool_call"; id: string };

/** Why the agent stopped writing; a later server may know more reasons. */
export type FinishReason = "complete" | "length" | "content_filter" | (string & {});

/** What the agent did not read, because the conversation is longer than it can read. */
export interface Context {
	turns_left_out: number;
}

export interface Message {
	id: string;
	turn_id: string;
	role: "user" | "assistant";
	content: string;
	created_at: string;
	tool_calls: ToolCall[];
	parts?: MessagePart[];
	turn_status: TurnStatus;
	turn_ended_at?: string;
	usage?: Usage;
	finish_reason?: FinishReason;
	context?: Context;
	retry_of?: string;
	superseded?: boolean;
	error?: Failure;
}

export interface Conversation {
	id: string;
	title: string;
	created_at: string;
	updated_at: string;
}

export interface ConversationList {
	conversations: Conversation[];
	next_cursor?: string;
}

export interface MessageList {
	messages: Message[];
	previous_cursor?: string;
	next_cursor?: string;
}

export interface TurnDetail {
	id: string;
	conversation_id: string;
	status: TurnStatus;
	retry_of?: string;
	messages: Message[];
}

/** RFC 9457. */
export interface Problem {
	code: string;
	title: string;
	detail: string;
	status: number;
	instance?: string;
	turn_id?: string;
}

export interface PageSettings {
	agent_name: string;
	suggestions: string[];
	sign_in: { by: "code" } | { by: "token" } | { by: "address"; url: string };
	embedders: string[];
	images: string[];
	message_limit: number;
	calls_at_once: number;
}

/** The events of a turn, by their names. */
export type TurnEvent =
	| { name: "turn"; data: { turn_id: string; conversation_id: string; status: TurnStatus } }
	| {
			name: "message";
			data: {
				id: string;
				turn_id: string;
				role: "user" | "assistant";
				content: string;
				created_at: string;
			};
	  }
	| { name: "text"; data: { message_id: string; delta: string } }
	| { name: "discarded"; data: { message_id: string } }
	| {
			name: "tool_call";
			data: {
				id: string;
				message_id: string;
				tool_name: string;
				parameters: unknown;
				created_at: string;
			};
	  }
	| { name: "tool_result"; data: Outcome & { id: string } }
	| {
			name: "done";
			data: {
				status: TurnStatus;
				ended_at: string;
				usage: Usage;
				finish_reason?: FinishReason;
				context?: Context;
			};
	  }
	| { name: "error"; data: Problem };
