import { describe, expect, test } from "vitest";
import type { Message, ToolCall, TurnEvent } from "../api/types";
import { answerText, applyEvent, callStates, emptyTurn, type Turn, turnsOf } from "./turn";

const AT = "2026-11-20T14:00:00Z";
const USAGE = { input_tokens: 900, output_tokens: 264 };
const call: ToolCall = {
	id: "c1",
	tool_name: "look",
	parameters: { a: 1 },
	status: "running",
	executed_at: AT,
};
const EVENTS: TurnEvent[] = [
	{ name: "turn", data: { turn_id: "t", conversation_id: "c", status: "running" } },
	{
		name: "message",
		data: { id: "u", turn_id: "t", role: "user", content: "Hello?", created_at: AT },
	},
	{ name: "text", data: { message_id: "m1", delta: "I look " } },
	{ name: "text", data: { message_id: "m1", delta: "it up." } },
	{
		name: "message",
		data: { id: "m1", turn_id: "t", role: "assistant", content: "I look it up.", created_at: AT },
	},
	{
		name: "tool_call",
		data: { id: "c1", message_id: "m1", tool_name: "look", parameters: { a: 1 }, created_at: AT },
	},
	{
		name: "tool_result",
		data: { id: "c1", status: "succeeded", result: [1], executed_at: AT, duration_ms: 3 },
	},
	{ name: "text", data: { message_id: "m2", delta: "Found." } },
	{
		name: "message",
		data: { id: "m2", turn_id: "t", role: "assistant", content: "Found.", created_at: AT },
	},
	{
		name: "done",
		data: {
			turn_id: "t",
			conversation_id: "c",
			status: "completed",
			ended_at: AT,
			usage: USAGE,
			finish_reason: "length",
			context: { turns_left_out: 2 },
		},
	},
];
const MESSAGES: Message[] = [
	{
		id: "u",
		turn_id: "t",
		role: "user",
		content: "Hello?",
		created_at: AT,
		tool_calls: [],
		turn_status: "completed",
	},
	{
		id: "m2",
		turn_id: "t",
		role: "assistant",
		content: "I look it up.\n\nFound.",
		created_at: AT,
		tool_calls: [{ ...call, status: "succeeded", result: [1], duration_ms: 3 }],
		parts: [
			{ type: "text", text: "I look it up." },
			{ type: "tool_call", id: "c1" },
			{ type: "text", text: "Found." },
		],
		turn_status: "completed",
		turn_ended_at: AT,
		usage: USAGE,
		finish_reason: "length",
		context: { turns_left_out: 2 },
	},
];

/** A turn without the message ids, which only the stream has. */
const withoutMessageIds = (turn: Turn | undefined) =>
	turn && { ...turn, parts: turn.parts.map((part) => ({ ...part, message: undefined })) };
const applied = (events: TurnEvent[]) => events.reduce(applyEvent, emptyTurn("t", "queued"));

test("the events of a turn give the same turn as its messages", () => {
	expect(withoutMessageIds(applied(EVENTS))).toEqual(withoutMessageIds(turnsOf(MESSAGES)[0]));
	expect(answerText(applied(EVENTS))).toBe(MESSAGES[1]?.content);
});

test("the size of text deltas makes no difference", () => {
	const whole = applied(EVENTS);
	const letters = EVENTS.flatMap((event) =>
		event.name === "text"
			? [...event.data.delta].map(
					(delta): TurnEvent => ({ name: "text", data: { ...event.data, delta } }),
				)
			: [event],
	);
	const without = EVENTS.filter((event) => event.name !== "text");
	expect(applied(letters)).toEqual(whole);
	expect(applied(without)).toEqual(whole);
});

test("discarded text is removed and later text replaces it", () => {
	const events: TurnEvent[] = [
		...EVENTS.slice(0, 4),
		{ name: "discarded", data: { message_id: "m1" } },
		{ name: "text", data: { message_id: "m9", delta: "Again." } },
	];
	expect(answerText(applied(events.slice(0, 5)))).toBe("");
	expect(answerText(applied(events))).toBe("Again.");
});

test("an empty message has no part", () => {
	const silent: TurnEvent = {
		name: "message",
		data: { id: "m1", turn_id: "t", role: "assistant", content: "", created_at: AT },
	};
	expect(applied([silent]).parts).toEqual([]);
});

test("a failure has its code, and the text that arrived before it is kept", () => {
	const turn = applied([
		...EVENTS.slice(0, 4),
		{ name: "error", data: { code: "agent_timeout", title: "", detail: "Too slow.", status: 504 } },
	]);
	expect([turn.status, turn.error, answerText(turn)]).toEqual([
		"failed",
		{ code: "agent_timeout", message: "" },
		"I look it up.",
	]);
});

test("a turn that failed without text has its end time and error", () => {
	const error = { code: "agent_timeout", message: "Too slow." };
	const [turn] = turnsOf([{ ...MESSAGES[0]!, turn_status: "failed", turn_ended_at: AT, error }]);
	expect(turn).toMatchObject({ status: "failed", parts: [], endedAt: AT, error });
});

test("unknown events are ignored", () => {
	const turn = applied(EVENTS.slice(0, 3));
	expect(applyEvent(turn, { name: "unknown", data: {} } as unknown as TurnEvent)).toEqual(turn);
});

test("each of two pages has its part of a turn that they share", () => {
	expect(turnsOf(MESSAGES.slice(1))[0]?.question).toBeNull();
	expect(turnsOf(MESSAGES.slice(0, 1))[0]?.parts).toEqual([]);
});

describe("calls without a result", () => {
	const parts = ["c1", "c2", "c3"].map((id) => ({ type: "call" as const, call: { ...call, id } }));
	const states = (turn: Turn, concurrency: number) => [...callStates(turn, concurrency).values()];
	test("run up to the concurrency limit, in order; the others wait", () => {
		expect(states({ ...emptyTurn("t", "running"), parts }, 2)).toEqual([
			"running",
			"running",
			"waiting",
		]);
	});
	test("are lost after the end of the turn", () => {
		expect(states({ ...emptyTurn("t", "cancelled"), parts }, 2)).toEqual(["lost", "lost", "lost"]);
	});
	test("start when an earlier call ends", () => {
		const [first, ...rest] = parts;
		const done = { type: "call" as const, call: { ...first!.call, status: "unknown" as const } };
		expect(states({ ...emptyTurn("t", "running"), parts: [done, ...rest] }, 1)).toEqual([
			"unknown",
			"running",
			"waiting",
		]);
	});
});
