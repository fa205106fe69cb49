import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { CDPSession, Page } from "playwright-core";
import { test } from "vitest";
import { Agent, Gate } from "./support/agent";
import { launch, openConversation, sendMessage, visitor } from "./support/browser";
import { ROTTERDAM, RUST } from "./support/demo-conversations";
import { Client, TestServer } from "./support/server";

/*
 * Measures the page: the first paint of a conversation of 1,000 messages, and the frames while 200
 * tokens per second arrive. The results depend on the machine and its load.
 */
const MESSAGES = 1_000;
const RATE = 200;
const SECONDS = 10;
const TRIES = 5;

const median = (numbers: number[]) =>
	[...numbers].sort((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? Number.NaN;
const table = ["| measurement | result | goal |", "|---|---|---|"];
const row = (what: string, value: string, wanted: string) =>
	table.push(`| ${what} | ${value} | ${wanted} |`);

/** Starts to count frames, and tasks that take longer than 50 ms. */
const startCounting = (page: Page) =>
	page.evaluate(() => {
		const seen = { frames: 0, long: 0, longest: 0 };
		Object.assign(window, { seen });
		const frame = () => {
			seen.frames++;
			requestAnimationFrame(frame);
		};
		requestAnimationFrame(frame);
		new PerformanceObserver((list) => {
			for (const entry of list.getEntries()) {
				seen.long++;
				seen.longest = Math.max(seen.longest, entry.duration);
			}
		}).observe({ type: "longtask" });
	});
const seen = (page: Page) =>
	page.evaluate(
		() => (window as unknown as { seen: { frames: number; long: number; longest: number } }).seen,
	);

/** The CPU time of the page's main thread, in milliseconds. */
async function cpuTime(session: CDPSession): Promise<number> {
	const { metrics } = await session.send("Performance.getMetrics");
	return (metrics.find((metric) => metric.name === "TaskDuration")?.value ?? 0) * 1_000;
}

interface TraceEvent {
	name: string;
	ph: string;
	pid: number;
	tid: number;
	/** The CPU time of a task, in microseconds. */
	tdur?: number;
	args: { name?: string };
}

/** The CPU time of the longest task of the page's main thread, in milliseconds. */
function longestTask(trace: Buffer): number {
	const { traceEvents: events } = JSON.parse(trace.toString()) as { traceEvents: TraceEvent[] };
	const main = new Set(
		events
			.filter(
				({ ph, name, args }) =>
					ph === "M" && name === "thread_name" && args.name === "CrRendererMain",
			)
			.map(({ pid, tid }) => `${pid} ${tid}`),
	);
	const tasks = events.filter(
		({ name, pid, tid }) => name === "RunTask" && main.has(`${pid} ${tid}`),
	);
	return Math.max(...tasks.map(({ tdur }) => tdur ?? 0)) / 1_000;
}

test("measure", { timeout: 600_000 }, async () => {
	const agent = await Agent.start();
	const server = await TestServer.start(agent);
	const browser = await launch();
	const client = new Client(server, "ann");
	let conversation: string | undefined;
	for (let at = 0; at < MESSAGES / 2; at++) {
		const question = `Question ${at}: why is it so?`;
		agent.on(question, { text: [at % 2 === 0 ? ROTTERDAM : RUST] });
		conversation = (await client.send(question, conversation)).conversation_id;
	}
	const paints: number[] = [];
	const works: number[] = [];
	for (let at = 0; at < TRIES; at++) {
		const { context, page } = await visitor(browser, server, "ann");
		const session = await context.newCDPSession(page);
		await session.send("Performance.enable");
		await page.goto(`/c/${conversation}`);
		await page.locator(".turn.last .msg.bot").waitFor();
		// The next frame shows the last message.
		paints.push(
			await page.evaluate(
				() =>
					new Promise<number>((resolve) =>
						requestAnimationFrame(() => setTimeout(() => resolve(performance.now()))),
					),
			),
		);
		works.push(await cpuTime(session));
		if (at === 0) {
			const scripts = await page.evaluate(() =>
				(performance.getEntriesByType("resource") as PerformanceResourceTiming[])
					.filter((entry) => entry.name.endsWith(".js"))
					.reduce((sum, entry) => sum + entry.encodedBodySize, 0),
			);
			row(
				"script for the first view, as sent (Brotli)",
				`${(scripts / 1_024).toFixed(0)} KiB`,
				"at most 300 KB gzipped",
			);
		}
		await context.close();
	}
	const assets = join(import.meta.dirname, "../dist/assets");
	const gzipped = readdirSync(assets)
		.filter((name) => name.endsWith(".js.gz"))
		.reduce((sum, name) => sum + statSync(join(assets, name)).size, 0);
	row("all scripts, gzipped", `${(gzipped / 1_024).toFixed(0)} KiB`, "");
	row(
		`the end of ${MESSAGES} messages is shown, after navigation (median of ${TRIES})`,
		`${median(paints).toFixed(0)} ms`,
		"under 1000 ms",
	);

	row("work of the main thread for that", `${median(works).toFixed(0)} ms`, "");

	const { context, page } = await visitor(browser, server, "ann");
	const session = await context.newCDPSession(page);
	await session.send("Performance.enable");
	await openConversation(page, conversation!);
	const words = Array.from({ length: RATE * SECONDS }, (_, at) =>
		at % 40 === 39 ? `word${at}.\n\n` : `**word${at}** `,
	);
	const [held, end] = [new Gate(), new Gate()];
	agent.on("Stream", {
		text: [...words, "End."],
		pause: 1_000 / RATE,
		before: held,
		beforeLast: end,
	});
	await sendMessage(page, "Stream");
	await held.reached;
	await startCounting(page);
	await browser.startTracing(page, {
		categories: ["disabled-by-default-devtools.timeline", "toplevel"],
	});
	const [before, startedAt] = [await cpuTime(session), Date.now()];
	held.open();
	await page.waitForFunction(
		(last) =>
			document.querySelector(".turn.last .md.live")?.lastElementChild?.textContent?.includes(last),
		words.at(-1)?.trim() ?? "",
		{ polling: "raf", timeout: 60_000 },
	);
	const [elapsed, work, counted] = [
		(Date.now() - startedAt) / 1_000,
		(await cpuTime(session)) - before,
		await seen(page),
	];
	const longest = longestTask(await browser.stopTracing());
	end.open();
	row(
		`tokens a second that were shown, for ${SECONDS} seconds`,
		(words.length / elapsed).toFixed(0),
		`${RATE}`,
	);
	row("frames a second while they came", (counted.frames / elapsed).toFixed(0), "60");
	row(
		"work of the main thread for each frame",
		`${(work / counted.frames).toFixed(1)} ms`,
		"under 16.7 ms",
	);
	row("work of the longest task", `${longest.toFixed(1)} ms`, "under 50 ms");
	row(
		"tasks longer than 50 ms on the clock",
		counted.long === 0 ? "0" : `${counted.long}, the longest ${counted.longest.toFixed(0)} ms`,
		"0",
	);
	console.log(table.join("\n"));
	await browser.close();
	await server.remove();
	agent.stop();
});
