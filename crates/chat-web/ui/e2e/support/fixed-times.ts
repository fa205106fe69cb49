import { withDatabase } from "./database";
import type { TestServer } from "./server";

/** The current time in the pictures. */
export const NOW = new Date("2026-11-20T14:02:00Z");

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** The time between two turns of a conversation, in microseconds. */
const TURN = 4 * MINUTE * 1_000;
/** The time since the last activity of each conversation, the last active first. */
const AGO = [
	MINUTE,
	5 * MINUTE,
	81 * MINUTE,
	DAY - 120 * MINUTE,
	DAY + 60 * MINUTE,
	2 * DAY,
	2.2 * DAY,
	3 * DAY,
	4 * DAY,
	5 * DAY,
	8 * DAY,
	14 * DAY,
	20 * DAY,
];

/** Sets all times in the database relative to `now`, so that pictures are reproducible. */
export async function fixTimes(server: TestServer, now = NOW) {
	await server.stop();
	withDatabase(server.database, (all, run) => {
		const conversations = all(
			"select hex(id) as id from conversations order by updated_at desc, id desc",
		);
		for (const [at, { id }] of conversations.entries()) {
			const end = (now.getTime() - (AGO[at] ?? 30 * DAY)) * 1_000;
			const of = `hex(conversation_id) = '${id}'`;
			run(
				`update conversations set created_at = ${end - 20_000_000}, updated_at = ${end} where hex(id) = '${id}'`,
			);
			for (const { turn, before } of all(
				`select hex(id) as turn, max(ordinal) over () - ordinal as before from turns where ${of}`,
			)) {
				const ended = end - Number(before) * TURN;
				const part = `hex(turn_id) = '${turn}'`;
				run(
					`update turns set created_at = ${ended - 9_000_000}, ended_at = ${ended} where hex(id) = '${turn}'`,
				);
				run(
					`update messages set created_at = ${ended - 9_000_000} where role = 'user' and ${part}`,
				);
				run(`update messages set created_at = ${ended} where role <> 'user' and ${part}`);
				const [calledAt, resultAt] = [ended - 6_000_000, ended - 4_000_000];
				run(
					`update tool_calls set created_at = ${calledAt}, started_at = ${calledAt}, result_at = ${resultAt} where ${part}`,
				);
				run(
					`update tool_calls set took_us = case tool when 'orders_lookup' then 412000 else 1900000 end where ${part}`,
				);
			}
		}
	});
	await server.run();
}
