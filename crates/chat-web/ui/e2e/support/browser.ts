import { existsSync } from "node:fs";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { expect } from "vitest";
import { type TestServer, tokenOf } from "./server";

const PLACES = [
	"/usr/bin/chromium",
	"/usr/bin/chromium-browser",
	"/usr/bin/google-chrome",
	"/usr/bin/google-chrome-stable",
];

export const PHONE: BrowserContextOptions = {
	viewport: { width: 390, height: 844 },
	isMobile: true,
	hasTouch: true,
};

export async function launch(): Promise<Browser> {
	const program = process.env.CHROMIUM ?? PLACES.find((place) => existsSync(place));
	if (!program)
		throw new Error(
			"there is no Chromium; on Debian: apt-get install chromium. Or name one in the variable CHROMIUM.",
		);
	return chromium.launch({
		executablePath: program,
		headless: true,
		chromiumSandbox: false,
		args: [
			"--disable-gpu",
			"--disable-quic",
			"--no-first-run",
			"--disable-background-networking",
			"--disable-component-update",
			"--disable-sync",
			"--font-render-hinting=none",
			"--force-color-profile=srgb",
		],
	});
}

/**
 * Exceptions and console errors of pages, such as violations of the policy. Some tests fail
 * requests.
 */
export class PageErrors {
	readonly all: string[] = [];

	watch(page: Page) {
		page.on("pageerror", (error) => this.all.push(`${error}`));
		page.on("console", (message) => {
			const expected = /Failed to load resource|net::ERR_/.test(message.text());
			if (message.type() === "error" && !expected) this.all.push(message.text());
		});
	}
}

/** Opens a browser context for a user, signed in unless `user` is `null`. */
export async function visitor(
	browser: Browser,
	server: TestServer,
	user: string | null,
	options: BrowserContextOptions = {},
) {
	const context = await browser.newContext({
		viewport: { width: 1280, height: 832 },
		locale: "en-GB",
		timezoneId: "Europe/Berlin",
		baseURL: server.url,
		...options,
	});
	const token = user && tokenOf(user, 3_600, { name: NAMES[user] ?? user });
	if (token) await context.addInitScript(storeToken, token);
	const errors = new PageErrors();
	context.on("page", (page) => errors.watch(page));
	return { context, errors, page: await context.newPage() };
}

export const NAMES: Record<string, string> = { mara: "Mara Lindqvist" };

/** Stores the token once: the page may remove it. */
function storeToken(token: string) {
	if (
		location.protocol === "about:" ||
		window.parent !== window ||
		sessionStorage.getItem("test.signed-in")
	)
		return;
	sessionStorage.setItem("test.signed-in", "yes");
	localStorage.setItem("chat.token", token);
}

export const composer = (page: Page) => page.locator("#composer");

export async function sendMessage(page: Page, text: string) {
	await composer(page).fill(text);
	// On a touch screen, Enter makes a new line.
	if (await page.evaluate(() => matchMedia("(pointer: coarse)").matches))
		await page.locator(".send[type=submit]").tap();
	else await composer(page).press("Enter");
}

/** Waits for the end of the newest answer. After a second message, use `answersEnded`. */
export const answerEnded = (page: Page, status = "completed") =>
	page.locator(`.turn.last .msg.bot[data-status=${status}]`).waitFor({ timeout: 30_000 });

/**
 * Waits until this many answers have ended. A message that was just sent is not part of the newest
 * turn yet, so waiting for the newest answer alone could find the previous one.
 */
export const answersEnded = (page: Page, count: number) =>
	expect
		.poll(() => page.locator(".msg.bot[data-status=completed]").count(), { timeout: 30_000 })
		.toBe(count);

export async function openConversation(page: Page, conversation: string) {
	await page.goto(`/c/${conversation}`);
	await page.locator(".msg").first().waitFor();
}
