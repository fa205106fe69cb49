import type { components } from "./schema";

/*
 * Names for the schemas of the native API. `schema.ts` is generated from docs/openapi.json by
 * `npm run generate`; `npm run check` fails when it is out of date.
 */
type Schemas = components["schemas"];

export type Conversation = Schemas["Conversation"];
export type ConversationList = Schemas["ConversationList"];
export type FinishReason = Schemas["FinishReason"];
export type Message = Schemas["Message"];
export type MessageList = Schemas["MessageList"];
export type PageSettings = Schemas["PageSettings"];
export type ToolCall = Schemas["ToolCall"];
export type ToolOutcome = Schemas["ToolOutcome"];
export type TurnDetail = Schemas["TurnDetail"];
export type TurnError = Schemas["TurnError"];
export type TurnStatus = Schemas["TurnStatus"];
export type Usage = Schemas["Usage"];

/**
 * The part of a problem (RFC 9457) that the page reads. The code is any text: the page makes
 * problems of its own, and a later server has more codes.
 */
export type Problem = Pick<Schemas["Problem"], "title" | "detail" | "status"> & { code: string };

/** The events of a turn's stream, by name. OpenAPI cannot describe an event stream. */
export type TurnEvent =
	| { name: "turn"; data: Schemas["StateEvent"] }
	| { name: "message"; data: Schemas["MessageEvent"] }
	| { name: "text"; data: Schemas["TextEvent"] }
	| { name: "discarded"; data: Schemas["DiscardedEvent"] }
	| { name: "tool_call"; data: Schemas["ToolCallEvent"] }
	| { name: "tool_result"; data: Schemas["ToolResultEvent"] }
	| { name: "done"; data: Schemas["DoneEvent"] }
	| { name: "error"; data: Problem };
