import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { Gate } from "./support/agent";
import {
	answerEnded,
	answersEnded,
	composer,
	openConversation,
	PHONE,
	sendMessage,
	visitor,
} from "./support/browser";
import {
	agent,
	browser,
	client,
	listRow,
	openNewConversation,
	page,
	server,
	setUpTestServer,
} from "./support/fixture";
import { TestServer } from "./support/server";

/*
 * Typing, copying, pasting and touching. Each test has a user of its own, and so an empty list.
 */
setUpTestServer();

test("copying works over plain HTTP, where a page has no clipboard API", async () => {
	const text = 'See **this**:\n\n```py\nprint("<b>")\n```';
	agent.on(
		"Copy  this\n",
		{ text, calls: [{ name: "echo", args: { answer: '"a result"' } }] },
		{ text: "So." },
	);
	await page.addInitScript(() =>
		Object.defineProperty(navigator, "clipboard", { value: undefined }),
	);
	await openNewConversation();
	await sendMessage(page, "Copy  this\n");
	await answerEnded(page);
	await page.locator(".tool-head").click();
	for (const [name, copied] of [
		["Copy message", "Copy  this\n"],
		["Copy code", 'print("<b>")'],
		["Copy result", "a result"],
		["Copy answer", `${text}\n\nSo.`],
	] as const) {
		await composer(page).fill("");
		await page.getByRole("button", { name }).first().click();
		await page.locator(".sr[aria-live]", { hasText: "Copied." }).waitFor({ state: "attached" });
		await composer(page).press("Control+V");
		await expect.poll(() => composer(page).inputValue(), { message: name }).toBe(copied);
	}
	await expect.poll(() => page.locator(".toast").count()).toBe(0);
});

/** Presses a key that ends the composition of a character, as Safari reports it. */
const pressComposingKey = (on: Page, selector: string, key: string) =>
	on.locator(selector).evaluate((element, name) => {
		(element as HTMLElement).focus();
		element.dispatchEvent(
			new KeyboardEvent("keydown", { key: name, keyCode: 229, bubbles: true, cancelable: true }),
		);
	}, key);

test("keys of an input method neither send, stop nor rename", async () => {
	const gate = new Gate();
	agent.on("Talk", { text: ["I talk and talk. ", "All said."], beforeLast: gate });
	await openNewConversation();
	await sendMessage(page, "Talk");
	await page.getByText("I talk and talk.").waitFor();
	await composer(page).fill("にほん");
	await pressComposingKey(page, "#composer", "Enter");
	await pressComposingKey(page, "#composer", "Escape");
	await listRow("Talk").locator("a").dblclick();
	await page.locator(".row .rename").fill("Named");
	await pressComposingKey(page, ".row .rename", "Escape");
	await pressComposingKey(page, ".row .rename", "Enter");
	expect(await page.locator(".row .rename").inputValue()).toBe("Named");
	await page.locator(".row .rename").press("Enter");
	await listRow("Named").waitFor();
	// Escape in another field concerns that field alone.
	await page.locator("#find").click();
	await page.keyboard.press("Escape");
	expect(await composer(page).inputValue()).toBe("にほん");
	gate.open();
	await answerEnded(page);
	expect(await page.locator(".msg").count()).toBe(2);
});

test("on a phone, Enter makes a new line and the button sends", async () => {
	const phone = await visitor(browser, server, client.user, PHONE);
	await phone.page.goto("/");
	await composer(phone.page).tap();
	expect(await composer(phone.page).getAttribute("enterkeyhint")).toBe("enter");
	await phone.page.keyboard.type("one");
	await phone.page.keyboard.press("Enter");
	await phone.page.keyboard.type("two");
	await expect.poll(() => composer(phone.page).inputValue()).toBe("one\ntwo");
	await phone.page.getByRole("button", { name: "Send", exact: true }).tap();
	await answerEnded(phone.page);
	await expect.poll(() => phone.page.locator(".bubble").innerText()).toBe("one\ntwo");
	await phone.context.close();
	expect(phone.errors.all).toEqual([]);
});

test("each tab has its own draft of a new conversation; that of a closed tab is adopted", async () => {
	await openNewConversation();
	await composer(page).fill("From the first tab");
	const second = await page.context().newPage();
	await second.goto("/");
	await second.locator(".start").waitFor();
	await expect.poll(() => composer(second).inputValue()).toBe("");
	await sendMessage(second, "From the second tab");
	await answerEnded(second);
	await page.reload();
	await page.locator(".start").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("From the first tab");
	const third = await page.context().newPage();
	await third.goto("/");
	await composer(third).fill("From the third tab");
	await third.close({ runBeforeUnload: true });
	const left = () =>
		page.evaluate(() =>
			Object.values(localStorage).some((value) => String(value).includes('"left":true')),
		);
	await expect.poll(left).toBe(true);
	await second.goto("/");
	await expect.poll(() => composer(second).inputValue()).toBe("From the third tab");
	await expect.poll(() => composer(page).inputValue()).toBe("From the first tab");
});

test("tabs share the draft of a conversation", async () => {
	const { conversation_id } = await client.send("Started");
	await openConversation(page, conversation_id);
	const other = await page.context().newPage();
	await openConversation(other, conversation_id);
	await composer(page).fill("one");
	await expect.poll(() => composer(other).inputValue()).toBe("one");
	await composer(other).pressSequentially(" two");
	await expect.poll(() => composer(page).inputValue()).toBe("one two");
	await page.reload();
	await expect.poll(() => composer(page).inputValue()).toBe("one two");
	await composer(other).press("Enter");
	await expect.poll(() => composer(page).inputValue()).toBe("");
	await answersEnded(page, 2);
});

test("notices are stacked over the conversation and never cover the connection banner", async () => {
	const long = `${"A title of many words ".repeat(9)}`.trim();
	for (const title of ["First", "Second"]) {
		const { conversation_id } = await client.send(title);
		await client.call("PATCH", `/conversations/${conversation_id}`, {
			title: `${title} ${long}`.slice(0, 200),
		});
	}
	const { conversation_id } = await client.send("Stays");
	await openConversation(page, conversation_id);
	for (const title of ["First", "Second"]) {
		await listRow(title).hover();
		await listRow(title).getByRole("button").click();
		await page.getByRole("menuitem", { name: "Delete" }).click();
		await listRow(title).waitFor({ state: "detached" });
	}
	await page.context().setOffline(true);
	await page.locator(".link").waitFor();
	await sendMessage(page, "Not now");
	await page.locator(".toast.error").waitFor();
	await expect.poll(() => page.locator(".toast").count()).toBe(3);
	const box = async (selector: string, at = 0) =>
		(await page.locator(selector).nth(at).boundingBox())!;
	const [main, banner] = [await box(".main"), await box(".link")];
	const toasts = [await box(".toast", 0), await box(".toast", 1), await box(".toast", 2)];
	for (const [at, toast] of toasts.entries()) {
		expect(toast.width).toBeLessThanOrEqual(480);
		expect(Math.abs(toast.x + toast.width / 2 - (main.x + main.width / 2))).toBeLessThan(2);
		expect(toast.y + toast.height < banner.y || toast.y > banner.y + banner.height).toBe(true);
		if (at > 0) expect(toast.y).toBeGreaterThanOrEqual(toasts[at - 1]!.y + toasts[at - 1]!.height);
	}
	await page.context().setOffline(false);
	for (let left = 2; left > 0; left--)
		await page.getByRole("button", { name: "Undo" }).first().click();
	await listRow("First").waitFor();
	await listRow("Second").waitFor();
});

test("the printed address also signs in a tab that is already open", async () => {
	const own = await TestServer.start(null);
	const address = /http:\S+\/#code=\w+/.exec(own.startOutput)?.[0] ?? "";
	const guest = await visitor(browser, own, null);
	await guest.page.goto("/");
	await guest.page.getByText("Open the address that the server printed").waitFor();
	// Only the fragment changes, so the browser does not load the page.
	await guest.page.evaluate((url) => {
		Object.assign(window, { same: true });
		location.href = url;
	}, address);
	await guest.page.locator(".start").waitFor();
	expect(await guest.page.evaluate(() => "same" in window)).toBe(true);
	expect(guest.page.url()).toBe(`${own.url}/`);
	await guest.page.evaluate((url) => {
		location.href = url;
	}, address);
	await expect.poll(() => guest.page.url()).toBe(`${own.url}/`);
	await guest.context.close();
	await own.remove();
	expect(guest.errors.all).toEqual([]);
});

test.each([
	["token_expired", "Your sign-in has expired. Your draft is kept."],
	["invalid_token", "The server does not accept this token."],
	["token_not_yet_valid", "Your token is not valid yet."],
	["missing_token", "The token did not reach the server."],
	["another_code", "The text of the server."],
])("a token rejected with %s is explained", async (code, words) => {
	await openNewConversation();
	const problem = { code, title: "", detail: "The text of the server.", status: 401 };
	await page.route("**/api/**", (route) =>
		route.fulfill({
			status: 401,
			contentType: "application/problem+json",
			body: JSON.stringify(problem),
		}),
	);
	await sendMessage(page, "Hello");
	await page.locator(".sign-in-trouble", { hasText: words }).waitFor();
	await page.unrouteAll();
});
