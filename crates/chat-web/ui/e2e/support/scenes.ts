/** The states of the page in pictures, for a user with the demo conversations. */
import type { Page } from "playwright-core";
import { type Agent, Gate } from "./agent";
import { openConversation, sendMessage } from "./browser";
import { LATE_ORDER_QUESTION, lateOrderSteps } from "./demo-conversations";

type Scene = (page: Page, ids: Map<string, string>) => Promise<void>;

const inConversation =
	(title: string, prepare: (page: Page) => Promise<void>): Scene =>
	async (page, ids) => {
		await openConversation(page, ids.get(title) ?? "");
		await prepare(page);
	};

const LATE = "Order 4711 is late in Rotterdam";

/** The scenes by name, in an order in which each can follow the previous one. */
export const SCENES: Record<string, Scene> = {
	start: async (page) => {
		await page.goto("/");
		await page.locator(".row").first().waitFor({ state: "attached" });
	},
	tools: inConversation(LATE, async (page) => {
		await page.locator(".scroll").evaluate((box) => {
			box.scrollTop = 0;
		});
		await page.locator(".tool-head").nth(1).click();
		await page.locator(".value .hljs-attr").first().waitFor();
		await page.mouse.move(5, 400);
	}),
	code: inConversation("Why does my actix handler block?", (page) =>
		page.locator(".hljs-keyword").first().waitFor(),
	),
	failure: inConversation("Contract clause 14.2", (page) => page.locator(".failed").waitFor()),
	stopped: inConversation(LATE_ORDER_QUESTION, (page) => page.locator(".stopped").waitFor()),
	thread: inConversation(LATE, (page) => page.locator(".turn.last blockquote").waitFor()),
};

/** Shows an answer while it arrives. It ends when the returned gate is opened. */
export async function showStreaming(agent: Agent, page: Page): Promise<Gate> {
	const rest = new Gate();
	agent.on(LATE_ORDER_QUESTION, ...lateOrderSteps(rest));
	await page.goto("/");
	await sendMessage(page, LATE_ORDER_QUESTION);
	await page.locator(".md.live").getByText("Customs releas").waitFor();
	return rest;
}

/** Opens the list of conversations on a phone. */
export const showList = async (page: Page) => {
	await page.getByRole("button", { name: "Show the list of conversations" }).click();
	await page.locator(".app.drawer").waitFor();
};
