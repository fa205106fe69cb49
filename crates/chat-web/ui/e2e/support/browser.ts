import { existsSync } from "node:fs";
import {
	type Browser,
	type BrowserContext,
	type BrowserContextOptions,
	chromium,
	type Page,
} from "playwright-core";
import { type Home, tokenOf } from "./server";

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

/** What no page may do: throw, or break its policy. Requests that fail are part of some tests. */
export class Faults {
	readonly all: string[] = [];

	watch(page: Page) {
		page.on("pageerror", (error) => this.all.push(`${error}`));
		page.on("console", (message) => {
			const expected = /Failed to load resource|net::ERR_/.test(message.text());
			if (message.type() === "error" && !expected) this.all.push(message.text());
		});
	}
}

/** A browser of a user's, signed in unless `user` is `null`. */
export async function visitor(
	browser: Browser,
	home: Home,
	user: string | null,
	options: BrowserContextOptions = {},
) {
	const context = await browser.newContext({
		viewport: { width: 1280, height: 832 },
		locale: "en-GB",
		timezoneId: "Europe/Berlin",
		baseURL: home.url,
		...options,
	});
	const token = user && tokenOf(user, 3_600, { name: NAMES[user] ?? user });
	if (token) await context.addInitScript(keepToken, token);
	const faults = new Faults();
	context.on("page", (page) => faults.watch(page));
	return { context, faults, page: await context.newPage() };
}

export const NAMES: Record<string, string> = { mara: "Mara Lindqvist" };

/** Once: a token that the page drops stays dropped. */
function keepToken(token: string) {
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

export async function ask(page: Page, text: string) {
	await composer(page).fill(text);
	// On a touch screen, Enter makes a new line.
	if (await page.evaluate(() => matchMedia("(pointer: coarse)").matches))
		await page.locator(".send[type=submit]").tap();
	else await composer(page).press("Enter");
}

/** The newest answer has ended. */
export const ended = (page: Page, status = "completed") =>
	page.locator(`.turn.last .msg.bot[data-status=${status}]`).waitFor({ timeout: 30_000 });

export async function open(page: Page, conversation: string) {
	await page.goto(`/c/${conversation}`);
	await page.locator(".msg").first().waitFor();
}

export async function closed(...contexts: BrowserContext[]) {
	for (const context of contexts) await context.close();
}
