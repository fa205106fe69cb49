import type { Browser, Page, Request, Route } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { Agent, Gate } from "./support/agent";
import {
	answerEnded,
	answersEnded,
	composer,
	launch,
	openConversation,
	sendMessage,
	visitor,
} from "./support/browser";
import { BreakableProxy } from "./support/proxy";
import { Client, TestServer, tokenOf } from "./support/server";

/*
 * Failures of the connection, the server and the page: nothing is lost or duplicated, and tabs
 * agree.
 */
let agent: Agent;
let server: TestServer;
let browser: Browser;
let client: Client;
let visitors: Awaited<ReturnType<typeof visitor>>[] = [];
let users = 0;

beforeAll(async () => {
	agent = await Agent.start();
	browser = await launch();
});
afterAll(async () => {
	await browser?.close();
	agent?.stop();
});
beforeEach(async () => {
	server = await TestServer.start(agent, { CHAT_SHUTDOWN_GRACE: "100ms" });
	client = new Client(server, `user-${++users}`);
	visitors = [];
});
afterEach(async () => {
	for (const { context } of visitors) await context.close();
	await server.remove();
	expect(visitors.flatMap(({ errors }) => errors.all)).toEqual([]);
});

async function arrive(options = {}) {
	const guest = await visitor(browser, server, client.user, options);
	visitors.push(guest);
	return guest.page;
}

/** An answer of numbered words, so that a lost or duplicated word is noticed. */
const WORDS = Array.from({ length: 40 }, (_, at) => `word${at} `);
const shownWords = (text: string | null) =>
	(text?.match(/word\d+/g) ?? []).map((word) => Number(word.slice(4)));
const upTo = (count: number) => Array.from({ length: count }, (_, at) => at);

async function conversationText(id: string): Promise<string> {
	const { messages } = await client.get<{ messages: { content: string }[] }>(
		`/conversations/${id}/messages`,
	);
	return messages.at(-1)?.content ?? "";
}

test("a reload during an answer shows the text so far and resumes the stream", async () => {
	const gate = new Gate();
	agent.on("Tell", { text: WORDS, beforeLast: gate });
	const page = await arrive();
	await page.goto("/");
	await sendMessage(page, "Tell");
	const answer = page.locator(".msg.bot .md");
	await answer.getByText("word38").waitFor();
	await page.reload();
	await answer.getByText("word38").waitFor();
	expect(shownWords(await answer.textContent())).toEqual(upTo(39));
	gate.open();
	await answerEnded(page);
	expect(shownWords(await answer.textContent())).toEqual(upTo(40));
});

test("a broken connection is reported and resumed behind the last event", async () => {
	const proxy = await BreakableProxy.start(server);
	const gate = new Gate();
	agent.on("Tell", { text: WORDS, beforeLast: gate });
	const page = await arrive({ baseURL: proxy.url });
	const resumed: Request[] = [];
	const pages: Request[] = [];
	page.on("request", (request) => {
		if (request.url().endsWith("/events")) resumed.push(request);
		if (request.url().includes("/messages?")) pages.push(request);
	});
	await page.goto("/");
	await sendMessage(page, "Tell");
	const answer = page.locator(".msg.bot .md");
	await answer.getByText("word38").waitFor();
	proxy.cut();
	await page.getByText("The connection is lost.").filter({ visible: true }).first().waitFor();
	expect(shownWords(await answer.textContent())).toEqual(upTo(39));
	proxy.restore();
	await expect.poll(() => page.locator(".link").count(), { timeout: 20_000 }).toBe(0);
	// The turn must still run: its end would repair a loss during the resumption.
	await expect.poll(() => page.locator(".msg.bot").getAttribute("aria-busy")).toBe("true");
	expect(shownWords(await answer.textContent())).toEqual(upTo(39));
	const last = resumed.at(-1);
	expect(last && (await last.headerValue("last-event-id"))).toMatch(/^[0-9a-f]{8}\.\d+\./);
	expect(pages).toEqual([]);
	gate.open();
	await answerEnded(page);
	expect(shownWords(await answer.textContent())).toEqual(upTo(40));
	proxy.stop();
});

test("after a crash of the server during an answer the turn continues, and new text replaces lost text", async () => {
	const held = new Gate();
	agent.on("Tell", { text: ["lost words ", "never sent"], beforeLast: held });
	const page = await arrive();
	await page.goto("/");
	await sendMessage(page, "Tell");
	await page.getByText("lost words").waitFor();
	await server.kill();
	await page.locator(".link").waitFor();
	await composer(page).fill("typed during the outage");
	agent.on("Tell", { text: WORDS });
	await server.run();
	await answerEnded(page);
	const answer = page.locator(".msg.bot .md");
	expect(shownWords(await answer.textContent())).toEqual(upTo(40));
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await expect.poll(() => composer(page).inputValue()).toBe("typed during the outage");
	await expect.poll(() => page.locator(".link").count(), { timeout: 20_000 }).toBe(0);
	const id = new URL(page.url()).pathname.slice(3);
	expect((await conversationText(id)).trim()).toBe((await answer.textContent())?.trim());
});

test("a tool call that a crash interrupted is unknown, with a reason", async () => {
	agent.on(
		"Pay",
		{ text: "I pay.", calls: [{ name: "wait", args: { gate: "never" } }] },
		{ text: "Nobody knows whether it was paid." },
	);
	const page = await arrive();
	await page.goto("/");
	await sendMessage(page, "Pay");
	await agent.gate("never").reached;
	await page.locator(".tool.is-running").waitFor();
	await server.kill();
	await server.run();
	await page.locator(".tool.is-unknown").waitFor({ timeout: 30_000 });
	await answerEnded(page);
	await page.locator(".tool-head").click();
	await expect
		.poll(() => page.locator(".tool").innerText())
		.toMatch(/Unknown[\s\S]*unknown_outcome[\s\S]*may or may not/);
});

test("a message that cannot be sent becomes a draft again, and is stored once when it is sent", async () => {
	const page = await arrive();
	await page.goto("/");
	await page.locator(".start").waitFor();
	await server.kill();
	await sendMessage(page, "Do not lose me");
	await page.locator(".toast.error").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Do not lose me");
	await page.locator(".start").waitFor();
	await server.run();
	await composer(page).press("Enter");
	await answerEnded(page);
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	expect(
		(await client.get<{ conversations: unknown[] }>("/conversations")).conversations,
	).toHaveLength(1);
});

test("a message whose acknowledgement was lost is not stored twice", async () => {
	const page = await arrive();
	await page.goto("/");
	await page.locator(".start").waitFor();
	// The server receives the message; the page gets no response.
	await page.route("**/chat", async (route) => {
		await route.fetch();
		await route.abort();
	});
	await sendMessage(page, "Once");
	await page.locator(".toast.error").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Once");
	await page.unroute("**/chat");
	await page.reload();
	await page.locator(".start").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Once");
	await composer(page).press("Enter");
	await answerEnded(page);
	const { conversations } = await client.get<{ conversations: { id: string }[] }>("/conversations");
	expect(conversations).toHaveLength(1);
	const { messages } = await client.get<{ messages: unknown[] }>(
		`/conversations/${conversations[0]?.id}/messages`,
	);
	expect(messages).toHaveLength(2);
});

/** Intercepts the request of the next message. */
async function holdNextMessage(page: Page) {
	let arrived = (_: Route) => {};
	const held = new Promise<Route>((resolve) => {
		arrived = resolve;
	});
	await page.route("**/chat", (route) => arrived(route), { times: 1 });
	return {
		continue: async () => (await held).continue(),
		abort: async () => (await held).abort(),
	};
}

/** Submits two messages, the second while the request of the first is in flight. */
async function sendTwice(page: Page, outcome: "continue" | "abort") {
	const first = await holdNextMessage(page);
	await sendMessage(page, "First");
	await sendMessage(page, "Second");
	await first[outcome]();
}

test("an unsent message is in the field again when the failure is reported", async () => {
	const page = await arrive();
	await page.goto("/");
	await page.locator(".start").waitFor();
	await page.route("**/chat", (route) => route.abort());
	const inField = page.evaluate(
		() =>
			new Promise<string>((resolve) => {
				const read = () =>
					resolve(document.querySelector<HTMLTextAreaElement>("#composer")?.value ?? "");
				new MutationObserver((_, observer) => {
					if (!document.querySelector(".toast.error")) return;
					observer.disconnect();
					// A user's first action cannot come before this task.
					setTimeout(read);
				}).observe(document, { childList: true, subtree: true });
			}),
	);
	await sendMessage(page, "Once");
	expect(await inField).toBe("Once");
});

test("text typed while the first message is in flight stays in the field", async () => {
	const page = await arrive();
	await page.goto("/");
	const first = await holdNextMessage(page);
	await sendMessage(page, "First");
	await composer(page).fill("Second, half");
	await first.continue();
	await answerEnded(page);
	await expect.poll(() => composer(page).inputValue()).toBe("Second, half");
	await page.reload();
	await page.locator(".msg").first().waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Second, half");
	await page.goto("/");
	await page.locator(".start").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("");
});

test("a message submitted while another is in flight is sent after it", async () => {
	const page = await arrive();
	await page.goto("/");
	await sendTwice(page, "continue");
	await answersEnded(page, 2);
	await expect
		.poll(() => page.locator(".msg.user .bubble").allTextContents())
		.toEqual(["First", "Second"]);
	await expect.poll(() => composer(page).inputValue()).toBe("");
	expect(
		(await client.get<{ conversations: unknown[] }>("/conversations")).conversations,
	).toHaveLength(1);
});

test("after a failed message, a message submitted during it becomes part of the draft", async () => {
	const page = await arrive();
	await page.goto("/");
	await sendMessage(page, "Hello");
	await answerEnded(page);
	await sendTwice(page, "abort");
	await page.locator(".toast.error").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("First\n\nSecond");
	await composer(page).press("Enter");
	await answersEnded(page, 2);
	const { conversations } = await client.get<{ conversations: { id: string }[] }>("/conversations");
	const { messages } = await client.get<{ messages: { role: string; content: string }[] }>(
		`/conversations/${conversations[0]?.id}/messages`,
	);
	expect(messages.flatMap(({ role, content }) => (role === "user" ? [content] : []))).toEqual([
		"Hello",
		"First\n\nSecond",
	]);
});

test("a message in flight when the page was closed is sent when it is opened again", async () => {
	const page = await arrive();
	await page.goto("/");
	await page.locator(".start").waitFor();
	let markSent = () => {};
	const held = new Promise<void>((resolve) => {
		markSent = resolve;
	});
	let first = true;
	await page.route("**/chat", (route) => {
		if (!first) return route.continue();
		first = false;
		markSent();
	});
	await sendMessage(page, "On its way");
	await page.getByText("Sending").waitFor();
	await held;
	await page.reload();
	await answerEnded(page);
	await expect.poll(() => page.locator(".bubble").allInnerTexts()).toEqual(["On its way"]);
});

test("tabs of a browser show the same messages, answers and titles", async () => {
	const first = await arrive();
	const gate = new Gate();
	agent.on("Tell", { text: WORDS, beforeLast: gate });
	const { conversation_id } = await client.send("Started");
	await openConversation(first, conversation_id);
	const second = await first.context().newPage();
	await second.goto(`/c/${conversation_id}`);
	await second.locator(".msg").first().waitFor();
	await sendMessage(first, "Tell");
	for (const page of [first, second])
		await page.locator(".turn.last .md").getByText("word38").waitFor();
	await sendMessage(second, "And then?");
	await first.locator(".message-status", { hasText: "Waiting" }).waitFor();
	gate.open();
	for (const page of [first, second]) {
		await page.locator(".msg").getByText("You said: And then?").waitFor();
		await answerEnded(page);
	}
	const text = (page: Page) => page.locator(".column").textContent();
	await expect.poll(async () => (await text(first)) === (await text(second))).toBe(true);
	await first.getByRole("button", { name: "Answer again" }).click();
	await expect.poll(() => second.locator(".pager").count()).toBe(1);
	await first.locator(".row a").dblclick();
	await first.locator(".row .rename").fill("Renamed");
	await first.keyboard.press("Enter");
	await second.locator(".bar h1", { hasText: "Renamed" }).waitFor();
});

test("another browser receives changes from the server", async () => {
	const here = await arrive();
	const there = await arrive();
	const { conversation_id } = await client.send("Started");
	for (const page of [here, there]) await openConversation(page, conversation_id);
	await sendMessage(here, "News");
	await there.locator(".msg").getByText("You said: News").waitFor();
	await client.send("Another one");
	for (const page of [here, there])
		await page.locator(".row", { hasText: "Another one" }).waitFor();
	await client.call("DELETE", `/conversations/${conversation_id}`);
	for (const page of [here, there])
		await page.locator(".row", { hasText: "Started" }).waitFor({ state: "detached" });
});

test("a browser without a network reports that, and continues when it has one", async () => {
	const page = await arrive();
	const { conversation_id } = await client.send("Started");
	await openConversation(page, conversation_id);
	await page.context().setOffline(true);
	await page.getByText("You are offline.").waitFor();
	await composer(page).fill("Later");
	await page.context().setOffline(false);
	await expect.poll(() => page.locator(".link").count()).toBe(0);
	await composer(page).press("Enter");
	await answersEnded(page, 2);
});

test("on a slow network the answer is shown while it arrives", async () => {
	const page = await arrive();
	const network = await page.context().newCDPSession(page);
	// The developer tools call this slow 3G.
	await network.send("Network.emulateNetworkConditions", {
		offline: false,
		latency: 400,
		downloadThroughput: 50_000,
		uploadThroughput: 50_000,
	});
	const gate = new Gate();
	agent.on("Tell", { text: WORDS, beforeLast: gate });
	await page.goto("/");
	await sendMessage(page, "Tell");
	// The message is shown before the server acknowledges it.
	await page.locator(".bubble").waitFor();
	const answer = page.locator(".msg.bot .md");
	await answer.getByText("word38").waitFor();
	gate.open();
	await answerEnded(page);
	expect(shownWords(await answer.textContent())).toEqual(upTo(40));
});

test("after an expired sign-in, the draft and the messages are kept and usable with the next token", async () => {
	const page = await arrive();
	const { conversation_id } = await client.send("Started");
	await openConversation(page, conversation_id);
	await composer(page).fill("Half a thought");
	const expired = {
		status: 401,
		contentType: "application/problem+json",
		body: JSON.stringify({ code: "token_expired", detail: "Expired.", status: 401 }),
	};
	await page.route("**/api/**", (route) => route.fulfill(expired));
	await composer(page).press("Enter");
	await page.getByText("Your sign-in has expired. Your draft is kept.").waitFor();
	await expect.poll(() => page.locator(".app").getAttribute("inert")).not.toBeNull();
	await page.unrouteAll();
	await page.locator("#token").fill(tokenOf(client.user));
	await page.keyboard.press("Enter");
	await page.locator(".sign-in").waitFor({ state: "detached" });
	await expect.poll(() => composer(page).inputValue()).toBe("Half a thought");
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await composer(page).press("Enter");
	await expect.poll(() => page.locator(".msg.bot").count()).toBe(2);
	await answerEnded(page);
});
