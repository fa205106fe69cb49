import { withDatabase } from './database';
import type { Home } from './server';

/** When the pictures are taken. */
export const NOW = new Date('2026-11-20T14:02:00Z');

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** How long ago each conversation was active, the last one first. */
const AGO = [
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

/** Gives everything in the database times that are always the same, so that pictures are. */
export async function settleTimes(home: Home) {
  await home.stop();
  withDatabase(home.database, (all, run) => {
    const conversations = all('select hex(id) as id from conversations order by updated_at desc, id desc');
    for (const [at, { id }] of conversations.entries()) {
      const end = (NOW.getTime() - (AGO[at] ?? 30 * DAY)) * 1_000;
      const of = `hex(conversation_id) = '${id}'`;
      run(`update conversations set created_at = ${end - 20_000_000}, updated_at = ${end} where hex(id) = '${id}'`);
      run(`update turns set created_at = ${end - 9_000_000}, ended_at = ${end} where ${of}`);
      run(`update messages set created_at = ${end - 9_000_000} where role = 'user' and ${of}`);
      run(`update messages set created_at = ${end} where role <> 'user' and ${of}`);
      run(
        `update tool_calls set created_at = ${end - 6_000_000}, started_at = ${end - 6_000_000}, result_at = ${end - 4_000_000} where ${of}`,
      );
      run(`update tool_calls set took_us = 412000 where tool = 'orders_lookup' and ${of}`);
      run(`update tool_calls set took_us = 1900000 where tool <> 'orders_lookup' and ${of}`);
    }
  });
  await home.run();
}
