/** Conversations for pictures. */
import { type Agent, Gate } from "./agent";
import type { Client } from "./server";

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

export const LATE = "Why is order 4711 late, and when will it arrive in Duisburg?";

export const LATE_STEPS = [
	{
		text: "I will look up the order and its container first.",
		calls: [
			{ name: "orders_lookup", args: { order: "4711", fields: ["lines", "shipment"] } },
			{ name: "carrier_track", args: { container: "MSKU2041184", events: 10 } },
		],
		tokens: 61,
	},
	{ text: ROTTERDAM, tokens: 264 },
];

const CLAUSE = "Summarise clause 14.2 of the framework contract.";

const CLAUSE_STEPS = [
	{
		text: "I will read the clause first.",
		calls: [{ name: "contracts_read", args: { contract: "framework", clause: "14.2" } }],
		tokens: 38,
	},
	{ text: "Clause 14.2 limits liability to the", errorCode: "server_overloaded" },
];

export const SUGGESTIONS =
	"Why is order 4711 late?|Compare the three courier offers|What did we promise Jonas?";

export const SLOT = "Yes, please draft it. And book the new slot.";

const BOOKED = `The slot is booked: **DUI-88213**, Monday 23 November, 07:30. Another truck has the one at 07:00; there is only one booking.

Here is the draft:

> Hello Mr Hölzl,
>
> your order 4711 is held briefly for a customs document check in Rotterdam. It will reach Duisburg on **Monday, 23 November, at 07:30** — two working days later than promised, at no extra cost to you.
>
> I am sorry for the wait, and will write again as soon as it is released.
>
> Mara Lindqvist`;

const SLOT_STEPS = [
	{
		calls: [
			{ name: "slots_book", args: { day: "2026-11-23", at: "07:00" } },
			{ name: "slots_book", args: { day: "2026-11-23", at: "07:30" } },
		],
	},
	{ text: BOOKED, tokens: 148 },
];

export const LATE_ORDER_QUESTION = "Why is order 4711 late, and what should I tell the customer?";

/** The answer to `LATE_ORDER_QUESTION`; it stops within its table until `rest` is opened. */
export const lateOrderSteps = (rest: Gate) => [
	LATE_STEPS[0]!,
	{
		text: [
			ROTTERDAM.slice(0, ROTTERDAM.indexOf("| Customs")),
			"| Customs releas",
			"e | 18 Nov 12:00 |",
		],
		beforeLast: rest,
	},
];

const RESULTS = {
	contracts_read: '{"clause":"14.2","title":"Limitation of liability","words":412}',
	orders_lookup: '{"order":"4711","container":"MSKU2041184","carrier":"Evergreen"}',
	carrier_track:
		'{"status":"customs_hold","location":"NLRTM","hold":"document_check","missing":["PL-4711-B"],"eta_gate_out":"2026-11-21T10:00:00+01:00"}',
};

export const TITLES = [
	"Why does my actix handler block?",
	"Monthly churn by plan",
	"Contract clause 14.2",
	"Release notes for 2.4",
	"Translate the safety data sheet",
	"Compare the three courier offers",
	"Onboarding plan for Jonas",
	"Regex for IBAN with spaces",
	"Postgres: index is not used",
	"Holiday rota December",
];

/** The messages that differ from their titles. */
const MESSAGES: Record<string, string> = { "Contract clause 14.2": CLAUSE };

/** Creates a conversation whose answer was stopped. */
async function createStopped(agent: Agent, client: Client): Promise<string> {
	const rest = new Gate();
	agent.on(LATE_ORDER_QUESTION, ...lateOrderSteps(rest));
	const response = await client.call(
		"POST",
		"/chat",
		{ message: LATE_ORDER_QUESTION },
		{ accept: "text/event-stream" },
	);
	let [received, isCancelled] = ["", false];
	for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
		received += piece;
		if (isCancelled || !received.includes("Customs")) continue;
		isCancelled = true;
		await client.call("POST", `/turns/${/"turn_id":"([\w-]+)"/.exec(received)?.[1]}/cancel`);
	}
	rest.open();
	return /"conversation_id":"([\w-]+)"/.exec(received)?.[1] ?? "";
}

/** Creates a user's conversations; returns their ids by title. */
export async function createConversations(
	agent: Agent,
	client: Client,
): Promise<Map<string, string>> {
	const ids = new Map<string, string>();
	agent.on(LATE, ...LATE_STEPS);
	for (const [tool, result] of Object.entries(RESULTS)) agent.results.set(tool, result);
	agent.on("Why does my actix handler block?", { text: RUST, tokens: 352 });
	agent.on(CLAUSE, ...CLAUSE_STEPS);
	const create = async (message: string, title: string) => {
		const { conversation_id } = await client.send(message);
		if (title !== message)
			await client.call("PATCH", `/conversations/${conversation_id}`, { title });
		ids.set(title, conversation_id);
		return conversation_id;
	};
	for (const title of [...TITLES].reverse()) await create(MESSAGES[title] ?? title, title);
	agent.on(SLOT, ...SLOT_STEPS);
	await client.send(SLOT, await create(LATE, "Order 4711 is late in Rotterdam"));
	ids.set(LATE_ORDER_QUESTION, await createStopped(agent, client));
	return ids;
}
