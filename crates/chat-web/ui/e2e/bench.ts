import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { CDPSession, Page } from "playwright-core";
import { test } from "vitest";
import { Agent, Gate } from "./support/agent";
import { ask, launch, open, visitor } from "./support/browser";
import { Client, Home } from "./support/server";
import { ROTTERDAM, RUST } from "./support/story";

/*
 * How fast the page is: the first paint of a conversation of 1,000 messages, and its frames while 200 tokens a second come in.
 * A measurement, not a test: what it prints depends on the machine and on what else runs there.
 */
const MESSAGES = 1_000;
const RATE = 200;
const SECONDS = 10;
const TRIES = 5;

const median = (numbers: number[]) =>
	[...numbers].sort((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? Number.NaN;
const table = ["| what | measured | wanted |", "|---|---|---|"];
const row = (what: string, value: string, wanted: string) =>
	table.push(`| ${what} | ${value} | ${wanted} |`);

/** Counts frames and the tasks that took longer than 50 ms, from now on. */
const watch = (page: Page) =>
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

/** The time that the page's main thread has worked, in milliseconds. */
async function worked(session: CDPSession): Promise<number> {
	const { metrics } = await session.send("Performance.getMetrics");
	return (metrics.find((metric) => metric.name === "TaskDuration")?.value ?? 0) * 1_000;
}

interface TraceEvent {
	name: string;
	ph: string;
	pid: number;
	tid: number;
	/** Of a task: how long its thread worked, in microseconds. */
	tdur?: number;
	args: { name?: string };
}

/** The work of the longest task of the page's main thread, in milliseconds. What else runs on the machine does not count. */
function longestWork(trace: Buffer): number {
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
	const home = await Home.start(agent);
	const browser = await launch();
	const client = new Client(home, "ann");
	let conversation: string | undefined;
	for (let at = 0; at < MESSAGES / 2; at++) {
		const question = `Question ${at}: why is it so?`;
		agent.on(question, { text: [at % 2 === 0 ? ROTTERDAM : RUST] });
		conversation = (await client.say(question, conversation)).conversation_id;
	}
	const paints: number[] = [];
	const works: number[] = [];
	for (let at = 0; at < TRIES; at++) {
		const { context, page } = await visitor(browser, home, "ann");
		const session = await context.newCDPSession(page);
		await session.send("Performance.enable");
		await page.goto(`/c/${conversation}`);
		await page.locator(".turn.last .msg.bot").waitFor();
		// The next frame after the last message came has it on the screen.
		paints.push(
			await page.evaluate(
				() =>
					new Promise<number>((resolve) =>
						requestAnimationFrame(() => setTimeout(() => resolve(performance.now()))),
					),
			),
		);
		works.push(await worked(session));
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

	const { context, page } = await visitor(browser, home, "ann");
	const session = await context.newCDPSession(page);
	await session.send("Performance.enable");
	await open(page, conversation!);
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
	await ask(page, "Stream");
	await held.reached;
	await watch(page);
	await browser.startTracing(page, {
		categories: ["disabled-by-default-devtools.timeline", "toplevel"],
	});
	const [before, begun] = [await worked(session), Date.now()];
	held.open();
	await page.waitForFunction(
		(last) =>
			document.querySelector(".turn.last .md.live")?.lastElementChild?.textContent?.includes(last),
		words.at(-1)?.trim() ?? "",
		{ polling: "raf", timeout: 60_000 },
	);
	const [elapsed, work, counted] = [
		(Date.now() - begun) / 1_000,
		(await worked(session)) - before,
		await seen(page),
	];
	const longest = longestWork(await browser.stopTracing());
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
	await home.remove();
	agent.stop();
});
