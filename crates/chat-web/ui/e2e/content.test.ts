import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Agent, type Step } from "./support/agent";
import { launch, openConversation, visitor } from "./support/browser";
import { uuid, withDatabase } from "./support/database";
import { Client, TestServer } from "./support/server";

/*
 * The page shows the content of the database: 500 mixed messages and 200 tool calls with their
 * text, order, times, parameters and results.
 */
const TURNS = 250;
const CALLS = 200;

let agent: Agent;
let server: TestServer;
let browser: Browser;

beforeAll(async () => {
	agent = await Agent.start();
	server = await TestServer.start(agent);
	browser = await launch();
});
afterAll(async () => {
	await browser?.close();
	await server?.remove();
	agent?.stop();
});

/** Markdown texts and their displayed texts. White space is not compared. */
const SAMPLES = new Map([
	["Plain words, with a comma.", "Plain words, with a comma."],
	["**Bold** and *leaning*, `code` and ~~gone~~.", "Bold and leaning, code and gone."],
	["- one\n- two\n  - deeper\n- three", "one two deeper three"],
	["1. first\n2. second\n\nThen a paragraph.", "first second Then a paragraph."],
	['```js\nconst a = `b` + "<c>";\n```', 'const a = `b` + "<c>";'],
	["| Name | Count |\n|---|--:|\n| apples | 3 |\n| pears | 12 |", "Name Count apples 3 pears 12"],
	["> quoted\n\n# Heading\n\nText below.", "quoted Heading Text below."],
	["مرحبا بكم، هذا نص عربي.", "مرحبا بكم، هذا نص عربي."],
	[
		"日本語のテキストと emoji 😀👩‍👩‍👧 and é, ß, Ω.",
		"日本語のテキストと emoji 😀👩‍👩‍👧 and é, ß, Ω.",
	],
	[
		"Line one\nline two\n\n\nline three   with   spaces",
		"Line one line two line three with spaces",
	],
	["<b>not bold</b> &amp; 5 < 6 && 7 > 3", "<b>not bold</b> & 5 < 6 && 7 > 3"],
]);
const SOURCES = [...SAMPLES.keys()];
const sample = (at: number) => `${SOURCES[at % SOURCES.length]}\n\nNumber ${at}.`;

/** The displayed text of a stored text. */
function rendered(stored: string): string {
	const [, source, number] = /^(.*)\n\n(Number \d+\.)$/s.exec(stored) ?? [];
	return source === undefined ? stored : `${SAMPLES.get(source)} ${number}`;
}

const bare = (text: string) => text.replace(/\s+/g, "");

const RESULTS: unknown[] = [
	{ ok: true, nothing: null, list: [1, 2.5, -3e-7], nested: { deep: [{ x: "y" }] } },
	'text alone\nwith lines "and quotes"',
	["<script>", "日本", ""],
	{ long: "z".repeat(3_000) },
	0,
	{},
];
const BIG = '{"id": 12345678901234567890, "rate": 1.10, "tiny": 1e-400}';

/** JSON without white space between tokens. */
function compact(json: string): string {
	return json.replace(/("(?:[^"\\]|\\.)*")|\s+/g, (_, text: string | undefined) => text ?? "");
}

function script(): { question: string; steps: Step[] }[] {
	let calls = 0;
	return Array.from({ length: TURNS }, (_, turn) => {
		const question = sample(turn);
		if (turn % 2 === 1 || calls >= CALLS) return { question, steps: [{ text: sample(turn + 3) }] };
		const step = (count: number): Step => ({
			text: calls % 3 === 0 ? "" : `Step before call ${calls}.`,
			calls: Array.from({ length: Math.min(count, CALLS - calls) }, () => {
				const at = calls++;
				if (at % 10 === 9) return { name: "fail", args: { message: `Failure ${at} <&>` } };
				if (at % 10 === 8) return { name: "no_such_tool", args: { at } };
				const answer = at % 7 === 0 ? BIG : JSON.stringify(RESULTS[at % RESULTS.length]);
				const args: Record<string, unknown> = {
					answer,
					at,
					flag: at % 2 === 0,
					list: ["a", { b: at }],
					empty: "",
				};
				if (at % 11 === 0)
					for (let more = 0; more < 8; more++) args[`field_${more}`] = `value ${more}`;
				return { name: "echo", args };
			}),
		});
		const steps = turn % 4 === 0 ? [step(turn % 20 === 0 ? 2 : 1), step(1)] : [step(1)];
		return { question, steps: [...steps, { text: sample(turn + 5) }] };
	});
}

interface DisplayedMessage {
	role: string;
	at: string;
	text: string;
	calls: {
		id: string;
		name: string;
		status: string;
		parameters: string;
		outcome: string;
		started: string;
	}[];
}

/** Reads the displayed messages from the elements of the page. */
const read = (page: Page): Promise<DisplayedMessage[]> =>
	page.locator(".msg").evaluateAll((all) =>
		all.map((message) => ({
			role: message.classList.contains("user") ? "user" : "assistant",
			at: message.querySelector(".meta time")?.getAttribute("datetime") ?? "",
			text: [...message.querySelectorAll(".md, .message-text")]
				.map((part) => {
					const copy = part.cloneNode(true) as Element;
					for (const caption of copy.querySelectorAll("figcaption")) caption.remove();
					return copy.textContent;
				})
				.join("\n"),
			calls: [...message.querySelectorAll(".tool")].map((card) => {
				const sections = [...card.querySelectorAll(".tool-body section")];
				const fields = [...(sections[0]?.querySelectorAll(".args > div") ?? [])].map(
					(field) =>
						[
							field.querySelector("dt")?.textContent ?? "",
							field.querySelector("dd pre, dd > code")?.textContent ?? "",
						] as const,
				);
				return {
					id: card.getAttribute("data-call") ?? "",
					name: card.querySelector(".tool-name")?.textContent ?? "",
					status: (card.className.match(/is-(\w+)/) ?? [])[1] ?? "",
					parameters:
						fields.length > 0
							? JSON.stringify(fields)
							: (sections[0]?.querySelector("pre")?.textContent ?? ""),
					outcome:
						sections[1]?.querySelector("pre")?.textContent ??
						sections[1]?.querySelector(".tool-err")?.textContent ??
						"",
					started: card.querySelector(".tool-id time")?.getAttribute("datetime") ?? "",
				};
			}),
		})),
	);

/** Milliseconds from microseconds, rounded down as in a browser's time. */
const millis = (micros: unknown) => Math.floor(Number(micros) / 1_000);

/** The page shows up to this many parameters as a table. */
const MAX_FIELDS = 8;

/** The displayed form of stored parameters. */
function displayedParameters(json: string): string {
	const value = JSON.parse(json) as Record<string, unknown>;
	if (Object.keys(value).length > MAX_FIELDS) return compact(json);
	const fields = Object.entries(value).map(([name, field]) => [
		name,
		typeof field === "string" ? field : compact(JSON.stringify(field)),
	]);
	return JSON.stringify(fields);
}

test("the page shows the whole content of the database in order", {
	timeout: 180_000,
}, async () => {
	const client = new Client(server, "ann");
	let conversation: string | undefined;
	for (const { question, steps } of script()) {
		agent.on(question, ...steps);
		conversation = (await client.send(question, conversation)).conversation_id;
	}
	const { context, page, errors } = await visitor(browser, server, "ann");
	await openConversation(page, conversation!);
	await expect
		.poll(
			async () => {
				await page.locator(".scroll").evaluate((box) => {
					box.scrollTop = 0;
				});
				return page.locator(".msg").count();
			},
			{ timeout: 60_000 },
		)
		.toBe(TURNS * 2);
	await page.evaluate(async () => {
		for (const head of document.querySelectorAll<HTMLElement>(".tool-head[aria-expanded=false]"))
			head.click();
		await new Promise(requestAnimationFrame);
	});
	await expect
		.poll(() => page.locator(".tool-body section").count())
		.toBeGreaterThanOrEqual(CALLS * 2);
	await page.evaluate(() => {
		for (const more of document.querySelectorAll<HTMLElement>(".value .text-btn")) more.click();
	});
	await expect.poll(() => page.getByText("Show all (").count()).toBe(0);
	const shown = await read(page);
	await context.close();
	await server.stop();

	const rows = withDatabase(server.database, (all) => ({
		messages: all("select * from messages order by position"),
		calls: all("select * from tool_calls order by position"),
	}));
	expect([rows.messages.length >= 500, rows.calls.length]).toEqual([true, CALLS]);
	expect(shown.map(({ role }) => role)).toEqual(
		Array.from({ length: TURNS }, () => ["user", "assistant"]).flat(),
	);
	const turns = [...new Set(rows.messages.map((row) => uuid(row.turn_id)))];
	for (const [at, turn] of turns.entries()) {
		const [question, answer] = shown.slice(at * 2, at * 2 + 2);
		const messages = rows.messages.filter((row) => uuid(row.turn_id) === turn);
		const [questionRow, ...answerRows] = messages;
		expect(question!.text).toBe(String(questionRow!.text));
		expect(Date.parse(question!.at)).toBe(millis(questionRow!.created_at));
		expect(bare(answer!.text)).toBe(
			bare(answerRows.map((row) => rendered(String(row.text))).join("")),
		);
		expect(Date.parse(answer!.at)).toBe(millis(answerRows.at(-1)!.created_at));
		const calls = rows.calls.filter((row) => uuid(row.turn_id) === turn);
		expect(answer!.calls.map((call) => call.id)).toEqual(calls.map((row) => uuid(row.id)));
		for (const [place, row] of calls.entries()) {
			const call = answer!.calls[place]!;
			expect(call.name).toBe(row.tool);
			expect(call.status).toBe(row.outcome === "succeeded" ? "succeeded" : "failed");
			const parameters = call.parameters.startsWith("[[")
				? (JSON.parse(call.parameters) as [string, string][])
				: null;
			const given = parameters
				? JSON.stringify(
						parameters.map(([name, text]) => [
							name,
							/^[[{]/.test(text) && name !== "answer" ? compact(text) : text,
						]),
					)
				: compact(call.parameters);
			expect(given).toBe(displayedParameters(String(row.arguments)));
			if (row.outcome === "succeeded") {
				const output = String(row.output);
				expect(output.startsWith('"') ? call.outcome : compact(call.outcome)).toBe(
					output.startsWith('"') ? JSON.parse(output) : compact(output),
				);
			} else {
				expect(call.outcome).toContain(String(row.error_message));
			}
			expect(Date.parse(call.started)).toBe(millis(row.started_at));
		}
	}
	expect(errors.all).toEqual([]);
});
