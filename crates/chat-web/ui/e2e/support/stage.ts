import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { Agent } from "./agent";
import { type Faults, launch, visitor } from "./browser";
import { Client, Home } from "./server";

/** What a file's tests work with after `stage()`: one server for all of them; for each another user, whose page and list are their own. */
export let agent: Agent;
export let home: Home;
export let browser: Browser;
export let page: Page;
export let client: Client;

export function stage() {
	let faults: Faults;
	let users = 0;
	beforeAll(async () => {
		agent = await Agent.start();
		home = await Home.start(agent, { CHAT_CALLS_AT_ONCE: "2", CHAT_PAGE_NAME: "Atlas" });
		browser = await launch();
	});
	afterAll(async () => {
		await browser?.close();
		await home?.remove();
		agent?.stop();
	});
	beforeEach(async () => {
		client = new Client(home, `user-${++users}`);
		({ page, faults } = await visitor(browser, home, client.user));
	});
	afterEach(async () => {
		await page.context().close();
		expect(faults.all).toEqual([]);
	});
}

export async function start() {
	await page.goto("/");
	await page.locator(".start").waitFor();
}

export const row = (title: string) => page.locator(".row", { hasText: title });
