import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Agent } from "./support/agent";
import {
	answerEnded,
	answersEnded,
	composer,
	launch,
	sendMessage,
	visitor,
} from "./support/browser";
import { Client, TestServer, tokenOf } from "./support/server";
import { startSite } from "./support/site";

/*
 * Signing in, and embedding the chat in other pages.
 */
let agent: Agent;
let browser: Browser;

beforeAll(async () => {
	agent = await Agent.start();
	browser = await launch();
});
afterAll(async () => {
	await browser?.close();
	agent?.stop();
});

test("in development mode the printed address signs in one browser, once, with its tabs and reloads", async () => {
	const server = await TestServer.start(null);
	const address = /http:\S+\/#code=\w+/.exec(server.startOutput)?.[0] ?? "";
	const { context, page, errors } = await visitor(browser, server, null);
	await page.goto("/");
	await page.getByText("Open the address that the server printed").waitFor();
	await page.goto("about:blank");
	await page.goto(address);
	await page.locator(".start").waitFor();
	expect(page.url()).toBe(`${server.url}/`);
	expect(await context.cookies()).toEqual([]);
	await page.getByRole("button", { name: "What is on my list?" }).click();
	await answerEnded(page);
	const tab = await context.newPage();
	await tab.goto(page.url());
	await tab.locator(".msg.bot").waitFor();
	await tab.getByRole("button", { name: "Sign out" }).click();
	await page.getByText("You signed out in another tab.").waitFor();
	// A second browser cannot use the code.
	const second = await visitor(browser, server, null);
	await second.page.goto(address);
	await second.page.getByText("A code works once.").waitFor();
	await context.close();
	await second.context.close();
	await server.remove();
	expect([...errors.all, ...second.errors.all]).toEqual([]);
});

test("a pasted token signs in; an invalid or expired one does not", async () => {
	const server = await TestServer.start(agent);
	const { context, page, errors } = await visitor(browser, server, null);
	await page.goto("/");
	const paste = async (token: string) => {
		await page.locator("#token").fill(token);
		await page.getByRole("button", { name: "Sign in" }).click();
	};
	await paste("nonsense");
	await page.getByText("That is not a token.").waitFor();
	await paste(tokenOf("ann", -10));
	await page.getByText("That token has expired.").waitFor();
	await paste(`${tokenOf("ann").slice(0, -4)}AAAA`);
	await page.getByText("The server does not accept this token.").waitFor();
	await paste(`Authorization: Bearer ${tokenOf("ann").replace(".", ".\n")}`);
	await page.locator(".start").waitFor();
	await context.close();
	await server.remove();
	expect(errors.all).toEqual([]);
});

test("the sign-in page returns with a token; a token that was not requested is rejected", async () => {
	const login = await startSite((path) =>
		path === "/login" ? ["text/html", "<h1>Who are you?</h1>"] : null,
	);
	const server = await TestServer.start(agent, {
		CHAT_PAGE_SIGN_IN: `${login.url}/login?tenant=a`,
	});
	const { context, page, errors } = await visitor(browser, server, null);
	await page.goto(`/#token=${tokenOf("mallory")}`);
	await page.getByText("That sign-in was not started on this page.").waitFor();
	await page.goto("/c/01a1fc3b-5b9b-77e2-a336-e8aa912c7fa7");
	await page.getByRole("button", { name: "Sign in" }).click();
	await page.getByText("Who are you?").waitFor();
	const parameters = new URL(page.url()).searchParams;
	expect([parameters.get("tenant"), parameters.get("return_to")]).toEqual([
		"a",
		`${server.url}/c/01a1fc3b-5b9b-77e2-a336-e8aa912c7fa7`,
	]);
	const seen: string[] = [];
	page.on("request", (request) => seen.push(request.url()));
	await page.goto(`${server.url}/#token=${tokenOf("ann")}&state=${parameters.get("state")}`);
	await page.locator(".start").waitFor();
	expect(page.url()).toBe(`${server.url}/`);
	expect(seen.filter((url) => url.includes("token="))).toEqual([]);
	await context.close();
	await server.remove();
	login.server.close();
	expect(errors.all).toEqual([]);
});

test("a site that embeds the chat provides the token, calls methods and receives events", async () => {
	const folder = join(import.meta.dirname, "../example");
	const host = await startSite((path) => {
		const name = path === "/" ? "index.html" : path.slice(1);
		if (path === "/token") return ["text/plain", tokenOf("ann", 3_600, { name: "Ann" })];
		const types: Record<string, string> = {
			html: "text/html",
			js: "text/javascript",
			css: "text/css",
		};
		const type = types[name.split(".").pop() ?? ""];
		return type ? [type, readFileSync(join(folder, name), "utf8")] : null;
	});
	const server = await TestServer.start(agent, { CHAT_PAGE_EMBEDDERS: host.url });
	agent.on("From the host", { text: "To the host." });
	const { context, page, errors } = await visitor(browser, server, null, { baseURL: host.url });
	await page.goto(`/?server=${encodeURIComponent(server.url)}`);
	const frame = page.frameLocator("chat-panel iframe");
	await frame.locator(".start").waitFor();
	await page.getByRole("button", { name: "From the host" }).click();
	await frame.locator(".msg.bot[data-status=completed]").getByText("To the host.").waitFor();
	const log = page.locator("#log li");
	await expect
		.poll(() => log.allInnerTexts())
		.toEqual(
			expect.arrayContaining([
				expect.stringMatching(/^ready/),
				expect.stringMatching(/^tokenneeded/),
				expect.stringMatching(/^conversation .*"id":"[\w-]{36}"/),
				expect.stringMatching(/^answerstart/),
				expect.stringMatching(/^answerend .*"status":"completed"/),
			]),
		);
	// A rejected token is requested again, and the message stays in the composer.
	let refused = 0;
	await page.route("**/api/**", (route) => {
		const refuse = route.request().method() === "POST" && refused++ === 0;
		return refuse
			? route.fulfill({
					status: 401,
					contentType: "application/problem+json",
					body: '{"detail":"Expired."}',
				})
			: route.continue();
	});
	await page.getByRole("button", { name: "From the host" }).click();
	await expect
		.poll(
			async () =>
				(await log.allInnerTexts()).filter((line) => line.startsWith("tokenneeded")).length,
		)
		.toBe(2);
	await log.getByText("not sent: Not sent. Expired.").waitFor();
	await frame.locator(".app:not([inert])").waitFor();
	await expect.poll(() => frame.locator("#composer").inputValue()).toBe("From the host");
	await frame.locator("#composer").press("Enter");
	await expect.poll(() => frame.locator(".msg.bot[data-status=completed]").count()).toBe(2);
	await page.unrouteAll();
	const panel = page.locator("chat-panel");
	await panel.evaluate((element) => element.setAttribute("theme", "dark"));
	await frame.locator("html[data-theme=dark]").waitFor({ state: "attached" });
	await panel.evaluate((element) => element.setAttribute("hue", "20"));
	await expect
		.poll(() => frame.locator("html").evaluate((html) => html.style.getPropertyValue("--hue")))
		.toBe("20");
	await panel.evaluate((element) =>
		(element as HTMLElement & { setDraft: (text: string) => Promise<void> }).setDraft(
			"Written by the host",
		),
	);
	await expect.poll(() => frame.locator("#composer").inputValue()).toBe("Written by the host");
	await panel.evaluate((element) =>
		(element as HTMLElement & { openConversation: (id: null) => Promise<void> }).openConversation(
			null,
		),
	);
	await frame.locator(".start").waitFor();
	const rejected = panel.evaluate((element) =>
		(element as HTMLElement & { sendMessage: (text: string) => Promise<void> })
			.sendMessage(" ")
			.then(String, (error: Error) => error.message),
	);
	expect(await rejected).toContain("empty");
	await panel.evaluate((element) => {
		(element as HTMLElement & { getToken: () => string }).getToken = () => "nonsense";
	});
	await page.route("**/api/**", (route) =>
		route.fulfill({
			status: 401,
			contentType: "application/problem+json",
			body: '{"detail":"Expired."}',
		}),
	);
	await log.getByText("No token. That is not a token, or it has expired.").waitFor();
	await page.unrouteAll();
	// The token is only in the memory of the frame.
	const kept = await page
		.frames()
		.find((one) => one.url().startsWith(server.url))
		?.evaluate(() => JSON.stringify(localStorage));
	expect(kept).not.toContain("token");
	await context.close();
	await server.remove();
	host.server.close();
	expect(errors.all).toEqual([]);
});

test("a page of another origin can neither embed the chat nor provide a token", async () => {
	const allowed = await startSite(() => ["text/html", ""]);
	let address = "";
	const other = await startSite(() => ["text/html", `<iframe src="${address}"></iframe>`]);
	const server = await TestServer.start(agent, { CHAT_PAGE_EMBEDDERS: allowed.url });
	address = server.url;
	const { context, page } = await visitor(browser, server, null);
	await page.goto(other.url);
	// The browser shows an error page instead.
	await expect
		.poll(() => page.frames().map((frame) => frame.url()))
		.toContain("chrome-error://chromewebdata/");
	await context.close();
	await server.remove();
	other.server.close();
	allowed.server.close();
});

test("no text of users, agents or tools becomes a script, an element or a request", async () => {
	const server = await TestServer.start(agent);
	const client = new Client(server, "ann");
	const injections = [
		"<script>window.hacked=1</script>",
		'<img src=x onerror="window.hacked=1">',
		"<svg/onload=window.hacked=1>",
		"[click](javascript:window.hacked=1)",
		"[data](data:text/html,<script>window.hacked=1</script>)",
		"![pixel](http://127.0.0.1:9/pixel.png)",
		'<iframe srcdoc="<script>parent.hacked=1</script>"></iframe>',
		'"><style>*{display:none}</style>',
		"`<b>` {{window.hacked=1}}",
		"```html\n<script>window.hacked=1</script>\n```",
		'| <img src=x onerror=window.hacked=1> |\n|---|\n| <a href="javascript:window.hacked=1">x</a> |',
		"&lt;script&gt;window.hacked=1&lt;/script&gt; &#106;avascript:alert(1)",
	];
	const all = injections.join("\n\n");
	agent.on(
		all,
		{
			text: all,
			calls: [
				{ name: "<img src=x onerror=window.hacked=1>", args: { "<b>name</b>": all } },
				{
					name: "echo",
					args: {
						answer: JSON.stringify({ "<i>key</i>": all }),
						'"><script>window.hacked=1</script>': [all],
					},
				},
				{ name: "echo", args: { answer: all } },
				{ name: "fail", args: { message: all } },
			],
		},
		{ text: all },
	);
	const { conversation_id } = await client.send(all);
	const title = '<img src=x onerror=window.hacked=1> "><script>window.hacked=1</script>';
	await client.call("PATCH", `/conversations/${conversation_id}`, { title });
	const { context, page, errors } = await visitor(browser, server, "ann");
	const foreignRequests: string[] = [];
	page.on("request", (request) => {
		if (!request.url().startsWith(server.url)) foreignRequests.push(request.url());
	});
	await page.goto(`/c/${conversation_id}`);
	await answerEnded(page);
	for (const head of await page.locator(".tool-head").all()) await head.click();
	await page.locator(".bar h1", { hasText: title }).waitFor();
	await page.locator(".row", { hasText: title }).locator("a").dblclick();
	await page.locator(".row .rename").press("Escape");
	await page.getByRole("button", { name: "More for this conversation" }).click();
	await page.keyboard.press("Escape");
	await sendMessage(page, all);
	await answersEnded(page, 2);
	expect(await page.evaluate(() => "hacked" in window)).toBe(false);
	expect(
		await page
			.locator(
				"img, iframe, style, script:not([src]), .md svg:not([aria-hidden]), [onerror], [onload], .tools b, .tools i",
			)
			.count(),
	).toBe(0);
	expect(await page.locator('a[href^="javascript" i], a[href^="data" i]').count()).toBe(0);
	expect(await page.locator('.md a:not([rel="noopener noreferrer nofollow"])').count()).toBe(0);
	expect(foreignRequests).toEqual([]);
	expect(await page.locator(".tool-name").first().textContent()).toBe(
		"<img src=x onerror=window.hacked=1>",
	);
	// No text reached the Content-Security-Policy, which would report a console error.
	expect(errors.all).toEqual([]);
	const refused = await page.evaluate(() => {
		const element = document.createElement("div");
		try {
			element.innerHTML = "<b>x</b>";
			return "accepted";
		} catch (error) {
			return (error as Error).name;
		}
	});
	expect(refused).toBe("TypeError");
	await expect.poll(() => composer(page).isVisible()).toBe(true);
	await context.close();
	await server.remove();
});
