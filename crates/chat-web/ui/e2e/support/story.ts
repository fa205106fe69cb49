/** Conversations as they might be, for pictures. */
import type { Agent } from './agent';
import type { Client } from './server';

export const ROTTERDAM = `The container **MSKU 204 118-4** is still in Rotterdam. It was discharged on Tuesday evening, and customs selected it for a **document check** — not a physical inspection, so the delay should be short.

| Milestone | Planned | Actual |
| --- | --- | --- |
| Vessel arrival | 17 Nov 06:00 | 17 Nov 19:40 |
| Discharge | 17 Nov 14:00 | 17 Nov 22:15 |
| Customs release | 18 Nov 12:00 | *pending* |
| Gate-out | 19 Nov 08:00 | **est. 21 Nov 10:00** |

**What I would do next**

1. Send the missing packing list (\`PL-4711-B\`) to the broker; it is the only open document.
2. Move the delivery slot in Duisburg from Friday to **Monday 23 Nov, 07:30**.
3. Tell the customer now: two working days late, no extra cost.

Shall I draft the message to the customer?`;

export const RUST = `The handler blocks because \`std::fs::read\` runs **on the worker thread**. actix-web has one single-threaded executor per worker, so while the file is read, every other request on that worker waits.

Move the blocking part to the blocking pool:

\`\`\`rust
use actix_web::{get, web, HttpResponse, error::ErrorInternalServerError};

#[get("/reports/{id}")]
async fn report(path: web::Path<u64>) -> actix_web::Result<HttpResponse> {
    let id = path.into_inner();
    let bytes = web::block(move || std::fs::read(format!("reports/{id}.pdf")))
        .await?
        .map_err(ErrorInternalServerError)?;

    Ok(HttpResponse::Ok().content_type("application/pdf").body(bytes))
}
\`\`\`

Two things to keep in mind:

- \`web::block\` returns a **nested** result: the outer one is a cancelled task, the inner one is your I/O error.
- The pool has 512 threads by default. If the reports sit on a network share, put a semaphore in front of it.

> Measured on your numbers (40 ms per read, 8 workers), the ceiling goes from about 200 to 9 600 requests per second.`;

export const LATE = 'Why is order 4711 late, and when will it arrive in Duisburg?';

export const LATE_STEPS = [
  {
    text: 'I will look up the order and its container first.',
    calls: [
      { name: 'orders_lookup', args: { order: '4711', fields: ['lines', 'shipment'] } },
      { name: 'carrier_track', args: { container: 'MSKU2041184', events: 10 } },
    ],
  },
  { text: ROTTERDAM },
];

const RESULTS = {
  orders_lookup: '{"order":"4711","container":"MSKU2041184","carrier":"Evergreen"}',
  carrier_track:
    '{"status":"customs_hold","location":"NLRTM","hold":"document_check","missing":["PL-4711-B"],"eta_gate_out":"2026-11-21T10:00:00+01:00"}',
};

export const TITLES = [
  'Why does my actix handler block?',
  'Monthly churn by plan',
  'Contract clause 14.2',
  'Release notes for 2.4',
  'Translate the safety data sheet',
  'Compare the three courier offers',
  'Onboarding plan for Jonas',
  'Regex for IBAN with spaces',
  'Postgres: index is not used',
  'Holiday rota December',
];

/** Fills a user's list; gives the conversations by their titles. */
export async function tell(agent: Agent, client: Client): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  agent.on(LATE, ...LATE_STEPS);
  for (const [tool, result] of Object.entries(RESULTS)) agent.results.set(tool, result);
  agent.on('Why does my actix handler block?', { text: RUST });
  agent.on('Contract clause 14.2', { status: 400 });
  for (const title of [...TITLES].reverse()) {
    ids.set(title, (await client.say(title)).conversation_id);
  }
  const late = (await client.say(LATE)).conversation_id;
  await client.call('PATCH', `/conversations/${late}`, { title: 'Order 4711 is late in Rotterdam' });
  ids.set('Order 4711 is late in Rotterdam', late);
  return ids;
}
