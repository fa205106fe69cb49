import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults, RunOptions } from "axe-core";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Agent, Gate } from "./support/agent";
import { ask, composer, ended, launch, open, PHONE, visitor } from "./support/browser";
import { compare } from "./support/pictures";
import { SCENES, showList, streaming } from "./support/scenes";
import { Client, Home } from "./support/server";
import { SUGGESTIONS, tell } from "./support/story";
import { NOW, settleTimes } from "./support/times";

/*
 * How the page looks, and how it is for those who do not look: on a desk and on a phone, light and dark.
 */
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES: RunOptions = {
	runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
	resultTypes: ["violations"],
};

let agent: Agent;
let home: Home;
let browser: Browser;
let ids: Map<string, string>;

beforeAll(async () => {
	agent = await Agent.start();
	home = await Home.start(agent, {
		CHAT_PAGE_NAME: "Atlas",
		CHAT_PAGE_SUGGESTIONS: SUGGESTIONS,
		CHAT_CALLS_AT_ONCE: "1",
	});
	ids = await tell(agent, new Client(home, "mara"));
	await settleTimes(home);
	browser = await launch();
});
afterAll(async () => {
	await browser?.close();
	await home?.remove();
	agent?.stop();
});

/** What axe finds wrong with the page as it is. */
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
/** How long a picture may take until it looks as it did, in milliseconds. */
const SETTLED_WITHIN = 5_000;
/** What is another each time: ids, and the times of what happens now. */
const IDS = ".tool-id, .turn-id";
const TIMES = "time, .tool-time";

describe.each(LOOKS)("%s, %s", (size, theme) => {
	const options = {
		...SIZES[size],
		...THEMES[theme],
		reducedMotion: "reduce",
		deviceScaleFactor: 1,
	} as const;
	const arrive = (user: string | null = "mara") => visitor(browser, home, user, options);

	test("looks as it did", async () => {
		const [told, now] = [await arrive(), await arrive(`${size} ${theme}`)];
		const wrong: (string | null)[] = [];
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
			// Fonts and the layout may settle after the first picture.
			const limit = Date.now() + SETTLED_WITHIN;
			let difference = await take();
			while (difference && Date.now() < limit) difference = await take();
			wrong.push(difference);
		};
		await told.page.clock.setFixedTime(NOW);
		for (const [name, show] of Object.entries(SCENES)) {
			await show(told.page, ids);
			await shoot(told.page, name);
		}
		if (size === "phone") {
			await showList(told.page);
			await shoot(told.page, "list");
		}
		const rest = await streaming(agent, now.page);
		await shoot(now.page, "streaming", TIMES);
		rest.open();
		await ended(now.page);
		for (const { context } of [told, now]) await context.close();
		expect(wrong.filter(Boolean)).toEqual([]);
		expect([...told.faults.all, ...now.faults.all]).toEqual([]);
	});

	test("axe finds nothing in any state", async () => {
		const { context, page, faults } = await arrive();
		const found: string[] = [];
		const check = async (state: string) => {
			found.push(...(await violations(page, state)));
		};
		await page.goto("/");
		await page.locator(".row").first().waitFor({ state: "attached" });
		await check("start");
		await open(page, conversation("Order 4711 is late in Rotterdam"));
		for (const head of await page.locator(".tool-head").all()) await head.click();
		await check("tools open");
		await open(page, conversation("Why does my actix handler block?"));
		await page.locator(".hljs-keyword").first().waitFor();
		await check("code");
		await open(page, conversation("Contract clause 14.2"));
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
		await ask(page, "Work");
		await page.locator(".tool.is-running").waitFor();
		await check("tool running");
		agent.gate(tool).open();
		await page.locator(".md.live").waitFor();
		await ask(page, "And?");
		await page.locator(".fate", { hasText: "Waits" }).waitFor();
		await check("streaming and queued");
		await page.getByRole("button", { name: "Take back" }).click();
		text.open();
		await page.locator(".fate", { hasText: "Waits" }).waitFor({ state: "detached" });
		await ask(page, "x");
		await ended(page);
		await page.getByRole("button", { name: "Answer again" }).click();
		await page.locator(".pager").waitFor();
		await ended(page);
		await page.getByRole("button", { name: "Earlier answer" }).click();
		await page.locator(".old").waitFor();
		await check("earlier answer");
		await page.context().setOffline(true);
		await page.getByText("You are offline.").waitFor();
		await ask(page, "Not now");
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
		const stranger = await arrive(null);
		await stranger.page.goto("/");
		await stranger.page.locator(".sign-in").waitFor();
		found.push(...(await violations(stranger.page, "signed out")));
		await stranger.context.close();
		expect(found).toEqual([]);
		expect([...faults.all, ...stranger.faults.all]).toEqual([]);
	});
});

/** Calls of which one is done, one failed, one runs and one waits; until what this gives are opened. */
async function calls(page: Page, name: string): Promise<Gate[]> {
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
	await ask(page, "Call");
	// Each state comes with an event of its own.
	for (const state of ["succeeded", "failed", "running", "waiting"])
		await page.locator(`.tool.is-${state}`).waitFor();
	return gates.map((gate) => agent.gate(gate));
}

test("without colours of its own, the page still tells what is chosen, where the focus is, and how calls stand", async () => {
	const { context, page, faults } = await visitor(browser, home, "mara", {
		forcedColors: "active",
	});
	const gates = await calls(page, "forced");
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
	// Whatever has the focus, or the frame around it, has a ring that it has not else; it is shown to whoever has used a key.
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
		expect.arrayContaining(["composer", "send stop", "tool-head", "scroll", "pick"]),
	);
	for (const gate of gates) gate.open();
	await ended(page);
	await context.close();
	expect(faults.all).toEqual([]);
});

test.each(["no-preference", "reduce"] as const)(
	"what waits moves unless people want less of that: %s",
	async (reducedMotion) => {
		const { context, page, faults } = await visitor(browser, home, "mara", { reducedMotion });
		const gates = await calls(page, reducedMotion);
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
		await ended(page);
		await context.close();
		expect(faults.all).toEqual([]);
	},
);

test("the colours are the system’s until somebody chooses others, and then stay", async () => {
	const { context, page, faults } = await visitor(browser, home, "mara", { colorScheme: "dark" });
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
	await page.getByRole("button", { name: "Switch to as the system" }).click();
	await expect.poll(scheme).not.toBe(dark);
	await context.close();
	expect(faults.all).toEqual([]);
});
