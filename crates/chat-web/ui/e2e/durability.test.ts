import type { Browser, Page, Request, Route } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { Agent, Gate } from "./support/agent";
import { ask, composer, ended, launch, open, visitor } from "./support/browser";
import { Client, Home, tokenOf } from "./support/server";
import { Wire } from "./support/wire";

/*
 * What the page shows while things break: nothing is lost, nothing is doubled, and all tabs agree.
 */
let agent: Agent;
let home: Home;
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
	home = await Home.start(agent, { CHAT_SHUTDOWN_GRACE: "100ms" });
	client = new Client(home, `user-${++users}`);
	visitors = [];
});
afterEach(async () => {
	for (const { context } of visitors) await context.close();
	await home.remove();
	expect(visitors.flatMap(({ faults }) => faults.all)).toEqual([]);
});

async function arrive(options = {}) {
	const guest = await visitor(browser, home, client.user, options);
	visitors.push(guest);
	return guest.page;
}

/** The words of an answer, each once and in order, so that a loss or a doubling shows. */
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

test("a reload in mid-answer shows all of it so far, and goes on", async () => {
	const gate = new Gate();
	agent.on("Tell", { text: WORDS, beforeLast: gate });
	const page = await arrive();
	await page.goto("/");
	await ask(page, "Tell");
	const answer = page.locator(".msg.bot .md");
	await answer.getByText("word38").waitFor();
	await page.reload();
	await answer.getByText("word38").waitFor();
	expect(shownWords(await answer.textContent())).toEqual(upTo(39));
	gate.open();
	await ended(page);
	expect(shownWords(await answer.textContent())).toEqual(upTo(40));
});

test("a connection that breaks is resumed after the last event, and says so meanwhile", async () => {
	const wire = await Wire.start(home);
	const gate = new Gate();
	agent.on("Tell", { text: WORDS, beforeLast: gate });
	const page = await arrive({ baseURL: wire.url });
	const resumed: Request[] = [];
	const pages: Request[] = [];
	page.on("request", (request) => {
		if (request.url().endsWith("/events")) resumed.push(request);
		if (request.url().includes("/messages?")) pages.push(request);
	});
	await page.goto("/");
	await ask(page, "Tell");
	const answer = page.locator(".msg.bot .md");
	await answer.getByText("word38").waitFor();
	wire.cut();
	await page.getByText("The connection is lost.").filter({ visible: true }).first().waitFor();
	expect(shownWords(await answer.textContent())).toEqual(upTo(39));
	wire.mend();
	await expect.poll(() => page.locator(".link").count(), { timeout: 20_000 }).toBe(0);
	// While it still runs: the end of an answer would mend what a resumption had lost.
	await expect.poll(() => page.locator(".msg.bot").getAttribute("aria-busy")).toBe("true");
	expect(shownWords(await answer.textContent())).toEqual(upTo(39));
	const last = resumed.at(-1);
	expect(last && (await last.headerValue("last-event-id"))).toMatch(/^[0-9a-f]{8}\.\d+\./);
	expect(pages).toEqual([]);
	gate.open();
	await ended(page);
	expect(shownWords(await answer.textContent())).toEqual(upTo(40));
	wire.stop();
});

test("the server is killed in mid-answer and comes back: the turn goes on, and other text takes the place of what was lost", async () => {
	const held = new Gate();
	agent.on("Tell", { text: ["lost words ", "never said"], beforeLast: held });
	const page = await arrive();
	await page.goto("/");
	await ask(page, "Tell");
	await page.getByText("lost words").waitFor();
	await home.kill();
	await page.locator(".link").waitFor();
	await composer(page).fill("typed meanwhile");
	agent.on("Tell", { text: WORDS });
	await home.run();
	await ended(page);
	const answer = page.locator(".msg.bot .md");
	expect(shownWords(await answer.textContent())).toEqual(upTo(40));
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await expect.poll(() => composer(page).inputValue()).toBe("typed meanwhile");
	await expect.poll(() => page.locator(".link").count(), { timeout: 20_000 }).toBe(0);
	const id = new URL(page.url()).pathname.slice(3);
	expect((await conversationText(id)).trim()).toBe((await answer.textContent())?.trim());
});

test("a tool whose server died with it is shown as unknown, with its reason", async () => {
	agent.on(
		"Pay",
		{ text: "I pay.", calls: [{ name: "wait", args: { gate: "never" } }] },
		{ text: "Nobody knows whether it was paid." },
	);
	const page = await arrive();
	await page.goto("/");
	await ask(page, "Pay");
	await agent.gate("never").reached;
	await page.locator(".tool.is-running").waitFor();
	await home.kill();
	await home.run();
	await page.locator(".tool.is-unknown").waitFor({ timeout: 30_000 });
	await ended(page);
	await page.locator(".tool-head").click();
	await expect
		.poll(() => page.locator(".tool").innerText())
		.toMatch(/Unknown[\s\S]*unknown_outcome[\s\S]*may or may not/);
});

test("what is sent while the server is away comes back to its writer, and is stored once when it is sent again", async () => {
	const page = await arrive();
	await page.goto("/");
	await page.locator(".start").waitFor();
	await home.kill();
	await ask(page, "Do not lose me");
	await page.locator(".toast.error").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Do not lose me");
	await page.locator(".start").waitFor();
	await home.run();
	await composer(page).press("Enter");
	await ended(page);
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	expect(
		(await client.get<{ conversations: unknown[] }>("/conversations")).conversations,
	).toHaveLength(1);
});

test("a message whose acknowledgement was lost is not sent twice", async () => {
	const page = await arrive();
	await page.goto("/");
	await page.locator(".start").waitFor();
	// The server gets it; the page hears nothing.
	await page.route("**/chat", async (route) => {
		await route.fetch();
		await route.abort();
	});
	await ask(page, "Once");
	await page.locator(".toast.error").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Once");
	await page.unroute("**/chat");
	await page.reload();
	await page.locator(".start").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Once");
	await composer(page).press("Enter");
	await ended(page);
	const { conversations } = await client.get<{ conversations: { id: string }[] }>("/conversations");
	expect(conversations).toHaveLength(1);
	const { messages } = await client.get<{ messages: unknown[] }>(
		`/conversations/${conversations[0]?.id}/messages`,
	);
	expect(messages).toHaveLength(2);
});

/** Holds the next message back, until it is let through or broken off. */
async function hold(page: Page): Promise<(through: boolean) => Promise<void>> {
	let arrived = (_: Route) => {};
	const held = new Promise<Route>((resolve) => {
		arrived = resolve;
	});
	await page.route("**/chat", (route) => arrived(route), { times: 1 });
	return async (through) => {
		const route = await held;
		await (through ? route.continue() : route.abort());
	};
}

/** Sends two messages, the second while the first, which is let through or broken off, is on its way. */
async function askTwice(page: Page, through: boolean) {
	const settle = await hold(page);
	await ask(page, "First");
	await ask(page, "Second");
	await settle(through);
}

test("what could not be sent is back in the field when that is said", async () => {
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
					// The first thing that a user could do comes no sooner.
					setTimeout(read);
				}).observe(document, { childList: true, subtree: true });
			}),
	);
	await ask(page, "Once");
	expect(await inField).toBe("Once");
});

test("what is written while the first message is on its way stays in the field", async () => {
	const page = await arrive();
	await page.goto("/");
	const settle = await hold(page);
	await ask(page, "First");
	await composer(page).fill("Second, half");
	await settle(true);
	await ended(page);
	await expect.poll(() => composer(page).inputValue()).toBe("Second, half");
	await page.reload();
	await page.locator(".msg").first().waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Second, half");
	await page.goto("/");
	await page.locator(".start").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("");
});

test("who sends while a message is on its way sends after it", async () => {
	const page = await arrive();
	await page.goto("/");
	await askTwice(page, true);
	await page.locator(".msg.user").nth(1).waitFor();
	await ended(page);
	await expect
		.poll(() => page.locator(".msg.user .bubble").allTextContents())
		.toEqual(["First", "Second"]);
	await expect.poll(() => composer(page).inputValue()).toBe("");
	expect(
		(await client.get<{ conversations: unknown[] }>("/conversations")).conversations,
	).toHaveLength(1);
});

test("who sends while a message is on its way that fails has both to send again", async () => {
	const page = await arrive();
	await page.goto("/");
	await ask(page, "Hello");
	await ended(page);
	await askTwice(page, false);
	await page.locator(".toast.error").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("First\n\nSecond");
	await composer(page).press("Enter");
	await page.locator(".msg.user").nth(1).waitFor();
	await ended(page);
	const { conversations } = await client.get<{ conversations: { id: string }[] }>("/conversations");
	const { messages } = await client.get<{ messages: { role: string; content: string }[] }>(
		`/conversations/${conversations[0]?.id}/messages`,
	);
	expect(messages.flatMap(({ role, content }) => (role === "user" ? [content] : []))).toEqual([
		"Hello",
		"First\n\nSecond",
	]);
});

test("a message that was on its way when the page was closed is sent when it is opened again", async () => {
	const page = await arrive();
	await page.goto("/");
	await page.locator(".start").waitFor();
	let asked = () => {};
	const held = new Promise<void>((resolve) => {
		asked = resolve;
	});
	let first = true;
	await page.route("**/chat", (route) => {
		if (!first) return route.continue();
		first = false;
		asked();
	});
	await ask(page, "On its way");
	await page.getByText("Sending").waitFor();
	await held;
	await page.reload();
	await ended(page);
	await expect.poll(() => page.locator(".bubble").allInnerTexts()).toEqual(["On its way"]);
});

test("two tabs of a browser stay in step: messages, answers, names, deletions", async () => {
	const first = await arrive();
	const gate = new Gate();
	agent.on("Tell", { text: WORDS, beforeLast: gate });
	const { conversation_id } = await client.say("Begun");
	await open(first, conversation_id);
	const second = await first.context().newPage();
	await second.goto(`/c/${conversation_id}`);
	await second.locator(".msg").first().waitFor();
	await ask(first, "Tell");
	for (const page of [first, second])
		await page.locator(".turn.last .md").getByText("word38").waitFor();
	await ask(second, "And then?");
	await first.locator(".fate", { hasText: "Waits" }).waitFor();
	gate.open();
	for (const page of [first, second]) {
		await page.locator(".msg").getByText("You said: And then?").waitFor();
		await ended(page);
	}
	const [one, other] = await Promise.all(
		[first, second].map((page) => page.locator(".column").textContent()),
	);
	expect(one).toBe(other);
	await first.getByRole("button", { name: "Answer again" }).click();
	await expect.poll(() => second.locator(".pager").count()).toBe(1);
	await first.locator(".row a").dblclick();
	await first.locator(".row .rename").fill("Renamed");
	await first.keyboard.press("Enter");
	await second.locator(".bar h1", { hasText: "Renamed" }).waitFor();
});

test("another browser learns of what happened from the server", async () => {
	const here = await arrive();
	const there = await arrive();
	const { conversation_id } = await client.say("Begun");
	for (const page of [here, there]) await open(page, conversation_id);
	await ask(here, "News");
	await there.locator(".msg").getByText("You said: News").waitFor();
	await client.say("Another one");
	for (const page of [here, there])
		await page.locator(".row", { hasText: "Another one" }).waitFor();
	await client.call("DELETE", `/conversations/${conversation_id}`);
	for (const page of [here, there])
		await page.locator(".row", { hasText: "Begun" }).waitFor({ state: "detached" });
});

test("a browser without a network says so, and goes on when it has one", async () => {
	const page = await arrive();
	const { conversation_id } = await client.say("Begun");
	await open(page, conversation_id);
	await page.context().setOffline(true);
	await page.getByText("You are offline.").waitFor();
	await composer(page).fill("Later");
	await page.context().setOffline(false);
	await expect.poll(() => page.locator(".link").count()).toBe(0);
	await composer(page).press("Enter");
	await ended(page);
});

test("a slow network shows the answer as it comes", async () => {
	const page = await arrive();
	const network = await page.context().newCDPSession(page);
	// What browsers' tools call slow 3G.
	await network.send("Network.emulateNetworkConditions", {
		offline: false,
		latency: 400,
		downloadThroughput: 50_000,
		uploadThroughput: 50_000,
	});
	const gate = new Gate();
	agent.on("Tell", { text: WORDS, beforeLast: gate });
	await page.goto("/");
	await ask(page, "Tell");
	// Said at once that it is on its way.
	await page.locator(".bubble").waitFor();
	const answer = page.locator(".msg.bot .md");
	await answer.getByText("word38").waitFor();
	gate.open();
	await ended(page);
	expect(shownWords(await answer.textContent())).toEqual(upTo(40));
});

test("when the sign-in expires, what was typed and shown is kept, and all goes on with the next token", async () => {
	const page = await arrive();
	const { conversation_id } = await client.say("Begun");
	await open(page, conversation_id);
	await composer(page).fill("Half a thought");
	// The server takes no token of the old secret any more.
	const expired = {
		status: 401,
		contentType: "application/problem+json",
		body: JSON.stringify({ code: "token_expired", detail: "Expired.", status: 401 }),
	};
	await page.route("**/api/**", (route) => route.fulfill(expired));
	await composer(page).press("Enter");
	await page.getByText("Your sign-in has expired. What you have written is kept.").waitFor();
	await expect.poll(() => page.locator(".app").getAttribute("inert")).not.toBeNull();
	await page.unrouteAll();
	await page.locator("#token").fill(tokenOf(client.user));
	await page.keyboard.press("Enter");
	await page.locator(".sign-in").waitFor({ state: "detached" });
	await expect.poll(() => composer(page).inputValue()).toBe("Half a thought");
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await composer(page).press("Enter");
	await expect.poll(() => page.locator(".msg.bot").count()).toBe(2);
	await ended(page);
});
