/** What is shown in pictures: from a page of whoever's conversations `tell` told. */
import type { Page } from "playwright-core";
import { type Agent, Gate } from "./agent";
import { ask, open } from "./browser";
import { TELL, tellSteps } from "./story";

type Scene = (page: Page, ids: Map<string, string>) => Promise<void>;

const of =
	(title: string, there: (page: Page) => Promise<void>): Scene =>
	async (page, ids) => {
		await open(page, ids.get(title) ?? "");
		await there(page);
	};

const LATE = "Order 4711 is late in Rotterdam";

/** By their names, in an order that each can follow the one before. */
export const SCENES: Record<string, Scene> = {
	start: async (page) => {
		await page.goto("/");
		await page.locator(".row").first().waitFor({ state: "attached" });
	},
	tools: of(LATE, async (page) => {
		await page.locator(".scroll").evaluate((box) => {
			box.scrollTop = 0;
		});
		await page.locator(".tool-head").nth(1).click();
		await page.locator(".value .hljs-attr").first().waitFor();
		await page.mouse.move(5, 400);
	}),
	code: of("Why does my actix handler block?", (page) =>
		page.locator(".hljs-keyword").first().waitFor(),
	),
	failure: of("Contract clause 14.2", (page) => page.locator(".failed").waitFor()),
	stopped: of(TELL, (page) => page.locator(".stopped").waitFor()),
	thread: of(LATE, (page) => page.locator(".turn.last blockquote").waitFor()),
};

/** An answer while it is written, of a conversation that is new; until what this gives is opened. */
export async function streaming(agent: Agent, page: Page): Promise<Gate> {
	const rest = new Gate();
	agent.on(TELL, ...tellSteps(rest));
	await page.goto("/");
	await ask(page, TELL);
	await page.locator(".md.live").getByText("Customs releas").waitFor();
	return rest;
}

/** On a phone. */
export const showList = async (page: Page) => {
	await page.getByRole("button", { name: "Show the list of conversations" }).click();
	await page.locator(".app.drawer").waitFor();
};
