import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { Agent } from "./agent";
import { launch, type PageErrors, visitor } from "./browser";
import { Client, TestServer } from "./server";

/**
 * Set by `setUpTestServer`: one server for all tests of a file, and a user and a page for each
 * test.
 */
export let agent: Agent;
export let server: TestServer;
export let browser: Browser;
export let page: Page;
export let client: Client;

export function setUpTestServer() {
	let errors: PageErrors;
	let users = 0;
	beforeAll(async () => {
		agent = await Agent.start();
		server = await TestServer.start(agent, { CHAT_CALLS_AT_ONCE: "2", CHAT_PAGE_NAME: "Atlas" });
		browser = await launch();
	});
	afterAll(async () => {
		await browser?.close();
		await server?.remove();
		agent?.stop();
	});
	beforeEach(async () => {
		client = new Client(server, `user-${++users}`);
		({ page, errors } = await visitor(browser, server, client.user));
	});
	afterEach(async () => {
		await page.context().close();
		expect(errors.all).toEqual([]);
	});
}

export async function openNewConversation() {
	await page.goto("/");
	await page.locator(".start").waitFor();
}

export const listRow = (title: string) => page.locator(".row", { hasText: title });
