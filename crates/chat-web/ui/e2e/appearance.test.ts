import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults, RunOptions } from "axe-core";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Agent, Gate } from "./support/agent";
import {
	answerEnded,
	composer,
	launch,
	openConversation,
	PHONE,
	sendMessage,
	visitor,
} from "./support/browser";
import { createConversations, SUGGESTIONS } from "./support/demo-conversations";
import { fixTimes, NOW } from "./support/fixed-times";
import { compare } from "./support/pictures";
import { SCENES, showList, showStreaming } from "./support/scenes";
import { Client, TestServer } from "./support/server";

/*
 * The appearance and the accessibility of the page: desktop and phone, light and dark.
 */
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES: RunOptions = {
	runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
	resultTypes: ["violations"],
};

let agent: Agent;
let server: TestServer;
let browser: Browser;
let ids: Map<string, string>;

beforeAll(async () => {
	agent = await Agent.start();
	server = await TestServer.start(agent, {
		CHAT_PAGE_NAME: "Atlas",
		CHAT_PAGE_SUGGESTIONS: SUGGESTIONS,
		CHAT_CALLS_AT_ONCE: "1",
	});
	ids = await createConversations(agent, new Client(server, "mara"));
	await fixTimes(server);
	browser = await launch();
});
afterAll(async () => {
	await browser?.close();
	await server?.remove();
	agent?.stop();
});

/** The violations that axe finds in the current state of the page. */
async function violations(page: Page, state: string): Promise<string[]> {
	await page.evaluate(() => document.fonts.ready);
	if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
	const found = await page.evaluate(
		(rules) =>
			(window as unknown as { axe: { run: (rules: RunOptions) => Promise<AxeResults> } }).axe.run(
				rules,
			),
		RULES,
	);
	return found.violations.map(
		({ id, impact, nodes }) =>
			`${state}: ${id} (${impact}) at ${nodes
				.map((node) => node.target.join(" "))
				.slice(0, 3)
				.join(", ")}`,
	);
}

const LOOKS = [
	["desk", "light"],
	["desk", "dark"],
	["desk", "forced"],
	["desk", "contrast"],
	["phone", "light"],
	["phone", "dark"],
] as const;
const THEMES: Record<(typeof LOOKS)[number][1], BrowserContextOptions> = {
	light: { colorScheme: "light" },
	dark: { colorScheme: "dark" },
	forced: { colorScheme: "dark", forcedColors: "active" },
	contrast: { colorScheme: "light", contrast: "more" },
};
const SIZES = { desk: {}, phone: PHONE };
const conversation = (title: string) => ids.get(title) ?? "";
/** How long a page may take until it equals its picture, in milliseconds. */
const SETTLING_LIMIT = 5_000;
/** Elements that differ in each run: ids, and times of new turns. */
const IDS = ".tool-id, .turn-id";
const TIMES = "time, .tool-time";

describe.each(LOOKS)("%s, %s", (size, theme) => {
	const options = {
		...SIZES[size],
		...THEMES[theme],
		reducedMotion: "reduce",
		deviceScaleFactor: 1,
	} as const;
	const arrive = (user: string | null = "mara") => visitor(browser, server, user, options);

	test("equals the stored pictures", async () => {
		const [demo, streamed] = [await arrive(), await arrive(`${size} ${theme}`)];
		const differences: (string | null)[] = [];
		const shoot = async (page: Page, name: string, changing = IDS) => {
			await page.evaluate((hidden) => {
				const sheet = new CSSStyleSheet();
				sheet.replaceSync(`${hidden} { visibility: hidden }`);
				document.adoptedStyleSheets = [sheet];
				return document.fonts.ready;
			}, changing);
			const take = async () =>
				compare(
					`${size}-${theme}-${name}`,
					await page.screenshot({ animations: "disabled", caret: "hide" }),
				);
			// Fonts and layout may settle after the first picture.
			const limit = Date.now() + SETTLING_LIMIT;
			let difference = await take();
			while (difference && Date.now() < limit) difference = await take();
			differences.push(difference);
		};
		await demo.page.clock.setFixedTime(NOW);
		for (const [name, show] of Object.entries(SCENES)) {
			await show(demo.page, ids);
			await shoot(demo.page, name);
		}
		if (size === "phone") {
			await showList(demo.page);
			await shoot(demo.page, "list");
		}
		const rest = await showStreaming(agent, streamed.page);
		await shoot(streamed.page, "streaming", TIMES);
		rest.open();
		await answerEnded(streamed.page);
		for (const { context } of [demo, streamed]) await context.close();
		expect(differences.filter(Boolean)).toEqual([]);
		expect([...demo.errors.all, ...streamed.errors.all]).toEqual([]);
	});

	test("axe finds no violation in any state", async () => {
		const { context, page, errors } = await arrive();
		const found: string[] = [];
		const check = async (state: string) => {
			found.push(...(await violations(page, state)));
		};
		await page.goto("/");
		await page.locator(".row").first().waitFor({ state: "attached" });
		await check("start");
		await openConversation(page, conversation("Order 4711 is late in Rotterdam"));
		for (const head of await page.locator(".tool-head").all()) await head.click();
		await check("tools open");
		await openConversation(page, conversation("Why does my actix handler block?"));
		await page.locator(".hljs-keyword").first().waitFor();
		await check("code");
		await openConversation(page, conversation("Contract clause 14.2"));
		await check("failed");
		await page.getByRole("button", { name: "More for this conversation" }).click();
		await check("menu");
		await page.keyboard.press("Enter");
		await check("rename");
		await page.keyboard.press("Escape");
		await page.locator(".scroll").focus();
		await page.keyboard.press("?");
		await check("shortcuts");
		await page.keyboard.press("Escape");
		if (size === "phone") {
			await page.getByRole("button", { name: "Show the list of conversations" }).click();
			await page.locator(".app.drawer").waitFor();
			await check("drawer");
			await page.getByRole("button", { name: "Close the list of conversations" }).click();
		}
		const [tool, text] = [`${size}-${theme}`, new Gate()];
		agent.on(
			"Work",
			{ text: "I look.", calls: [{ name: "wait", args: { gate: tool } }] },
			{ text: ["It is", " so."], beforeLast: text },
		);
		await page.goto("/");
		await sendMessage(page, "Work");
		await page.locator(".tool.is-running").waitFor();
		await check("tool running");
		agent.gate(tool).open();
		await page.locator(".md.live").waitFor();
		await sendMessage(page, "And?");
		await page.locator(".message-status", { hasText: "Waiting" }).waitFor();
		await check("streaming and queued");
		await page.getByRole("button", { name: "Withdraw" }).click();
		text.open();
		await page.locator(".message-status", { hasText: "Waiting" }).waitFor({ state: "detached" });
		await sendMessage(page, "x");
		await answerEnded(page);
		await page.getByRole("button", { name: "Answer again" }).click();
		await page.locator(".pager").waitFor();
		await answerEnded(page);
		await page.getByRole("button", { name: "Earlier answer" }).click();
		await page.locator(".old").waitFor();
		await check("earlier answer");
		await page.context().setOffline(true);
		await page.getByText("You are offline.").waitFor();
		await sendMessage(page, "Not now");
		await page.locator(".toast.error").waitFor();
		await check("offline, not sent");
		await page.context().setOffline(false);
		await composer(page).fill("");
		const title = (await page.locator(".bar h1").textContent()) ?? "";
		await page.getByRole("button", { name: "More for this conversation" }).click();
		await page.getByRole("menuitem", { name: "Delete" }).click();
		await page.getByText(`“${title}” is deleted.`).waitFor();
		await check("deleted");
		await page.evaluate(() => localStorage.clear());
		await page.goto("about:blank");
		await context.close();
		const signedOut = await arrive(null);
		await signedOut.page.goto("/");
		await signedOut.page.locator(".sign-in").waitFor();
		found.push(...(await violations(signedOut.page, "signed out")));
		await signedOut.context.close();
		expect(found).toEqual([]);
		expect([...errors.all, ...signedOut.errors.all]).toEqual([]);
	});
});

/**
 * Shows a done, a failed, a running and a waiting call. The last two end when the returned gates
 * are opened.
 */
async function showCallStates(page: Page, name: string): Promise<Gate[]> {
	const gates = [`${name} 1`, `${name} 2`];
	agent.on(
		"Call",
		{
			calls: [
				{ name: "echo", args: {} },
				{ name: "fail", args: {} },
				...gates.map((gate) => ({ name: "wait", args: { gate } })),
			],
		},
		{ text: "So." },
	);
	await page.goto("/");
	await sendMessage(page, "Call");
	// The events of the states arrive one by one.
	for (const state of ["succeeded", "failed", "running", "waiting"])
		await page.locator(`.tool.is-${state}`).waitFor();
	return gates.map((gate) => agent.gate(gate));
}

test("with forced colours, selection, focus and the states of calls are visible", async () => {
	const { context, page, errors } = await visitor(browser, server, "mara", {
		forcedColors: "active",
	});
	const gates = await showCallStates(page, "forced");
	const background = (row: string) =>
		page
			.locator(row)
			.first()
			.evaluate((element) => getComputedStyle(element).backgroundColor);
	await expect
		.poll(async () => (await background(".row.active")) !== (await background(".row:not(.active)")))
		.toBe(true);
	const cards = await page
		.locator(".tool")
		.evaluateAll((all) =>
			all.map((card) => [
				card.querySelector(".tool-status")?.textContent ?? "",
				card.querySelector(".tool-icon")?.innerHTML ?? "",
			]),
		);
	expect(cards.map(([word]) => word)).toEqual(["Done", "Failed", "Running", "Waiting"]);
	expect(new Set(cards.map(([, icon]) => icon)).size).toBe(4);
	// A focused element, or the frame around it, has a ring after the first key press.
	await page.keyboard.press("Tab");
	const rings = await page
		.locator('a:visible, button:visible, textarea:visible, input:visible, [tabindex="0"]:visible')
		.evaluateAll((all) =>
			(all as HTMLButtonElement[])
				.filter((element) => !element.disabled && element.tabIndex === 0)
				.map((element) => {
					const ringed =
						(element.matches("textarea, input") && element.closest(".composer, .find")) || element;
					element.blur();
					const before = getComputedStyle(ringed).outlineStyle;
					element.focus();
					return [element.className || element.id, before, getComputedStyle(ringed).outlineStyle];
				}),
		);
	expect(rings.filter(([, before, after]) => before !== "none" || after !== "solid")).toEqual([]);
	expect(rings.map(([name]) => name)).toEqual(
		expect.arrayContaining(["composer", "send stop", "tool-head", "scroll", "row-link"]),
	);
	for (const gate of gates) gate.open();
	await answerEnded(page);
	await context.close();
	expect(errors.all).toEqual([]);
});

test.each(["no-preference", "reduce"] as const)(
	"waiting elements are animated unless the user prefers reduced motion: %s",
	async (reducedMotion) => {
		const { context, page, errors } = await visitor(browser, server, "mara", { reducedMotion });
		const gates = await showCallStates(page, reducedMotion);
		const moves = () =>
			page.evaluate(() =>
				document
					.getAnimations()
					.flatMap(({ effect }) => (effect as KeyframeEffect).getKeyframes())
					.some((frame) =>
						["translate", "rotate", "scale", "transform"].some((property) => property in frame),
					),
			);
		await expect.poll(moves).toBe(reducedMotion === "no-preference");
		for (const gate of gates) gate.open();
		await answerEnded(page);
		await context.close();
		expect(errors.all).toEqual([]);
	},
);

test("the page has the colours of the system until the user chooses others, which are kept", async () => {
	const { context, page, errors } = await visitor(browser, server, "mara", { colorScheme: "dark" });
	const scheme = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
	await page.goto("/");
	await page.locator(".start").waitFor();
	const dark = await scheme();
	await page.emulateMedia({ colorScheme: "light" });
	await expect.poll(scheme).not.toBe(dark);
	await page.getByRole("button", { name: "Switch to light" }).click();
	await page.getByRole("button", { name: "Switch to dark" }).click();
	await expect.poll(scheme).toBe(dark);
	await page.reload();
	await page.locator(".start").waitFor();
	await expect.poll(scheme).toBe(dark);
	await page.getByRole("button", { name: "Switch to system" }).click();
	await expect.poll(scheme).not.toBe(dark);
	await context.close();
	expect(errors.all).toEqual([]);
});
