import { join } from "node:path";
import type { OpenAIChatKit } from "@openai/chatkit";
import type { Browser } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Agent } from "./support/agent";
import { launch, visitor } from "./support/browser";
import { TestServer, tokenOf } from "./support/server";
import { startSite } from "./support/site";

/*
 * A page written for OpenAI's ChatKit with OpenAI's React package shows this chat, and requests
 * nothing from other servers.
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

declare global {
	interface Window {
		chat: Pick<OpenAIChatKit, "setThreadId" | "sendUserMessage" | "setComposerValue"> & {
			events: [name: string, detail: unknown][];
		};
	}
}

/** The script of the page, bundled. */
async function buildScript(): Promise<string> {
	const made = await build({
		configFile: false,
		logLevel: "error",
		define: { "process.env.NODE_ENV": '"production"' },
		build: {
			write: false,
			lib: { entry: join(import.meta.dirname, "support/chatkit-page.js"), formats: ["es"] },
		},
	});
	const [result] = Array.isArray(made) ? made : [made];
	if (!result || !("output" in result)) throw new Error("the build has no output");
	return result.output[0].code;
}

test("a page written for ChatKit in React works with this page instead", async () => {
	const pageScript = await buildScript();
	let serverUrl = "";
	const host = await startSite((path) => {
		if (path === "/token") return ["text/plain", tokenOf("ann", 3_600, { name: "Ann" })];
		if (path === "/page.js") return ["text/javascript", pageScript];
		const html = `<!doctype html><div id="root"></div><script src="${serverUrl}/embed.js?as=openai-chatkit"></script><script type="module" src="/page.js"></script>`;
		return path === "/" ? ["text/html", html] : null;
	});
	const server = await TestServer.start(agent, { CHAT_PAGE_EMBEDDERS: host.url });
	serverUrl = server.url;
	agent.on("From React", { text: "To React." });
	const { context, page, errors } = await visitor(browser, server, null, { baseURL: host.url });
	const foreignRequests: string[] = [];
	page.on("request", (request) => {
		if (![server.url, host.url].includes(new URL(request.url()).origin))
			foreignRequests.push(request.url());
	});
	await page.goto("/");
	const frame = page.frameLocator('openai-chatkit iframe[title="Ask us"]');
	await frame.locator(".start").waitFor();
	await frame.locator("html[data-theme=dark]").waitFor({ state: "attached" });
	const received = () => page.evaluate(() => window.chat.events);
	await page.evaluate(() => window.chat.sendUserMessage({ text: "From React" }));
	await frame.locator(".msg.bot[data-status=completed]").getByText("To React.").waitFor();
	await expect.poll(async () => (await received()).at(-1)).toEqual(["end", null]);
	const events = await received();
	const thread = (events[2] as [string, { threadId: string }])[1].threadId;
	expect(events).toEqual([
		["ready", null],
		["thread", { threadId: null }],
		["thread", { threadId: thread }],
		["start", null],
		["end", null],
	]);
	expect(thread).toMatch(/^thr_[0-9a-f]{32}$/);
	await page.evaluate(() => window.chat.setThreadId(null));
	await frame.locator(".start").waitFor();
	await page.evaluate(() => window.chat.setComposerValue({ text: "Half a thought" }));
	await expect.poll(() => frame.locator("#composer").inputValue()).toBe("Half a thought");
	await page.evaluate((id) => window.chat.setThreadId(id), thread);
	await frame.locator(".msg").getByText("To React.").waitFor();
	await page.evaluate(() => window.chat.sendUserMessage({ text: "A new one", newThread: true }));
	await frame.locator(".msg").getByText("You said: A new one").waitFor();
	await expect.poll(() => frame.locator(".msg").count()).toBe(2);
	// A client of ChatKit's protocol finds the thread under the same id.
	const answer = await fetch(`${server.url}/chatkit`, {
		method: "POST",
		headers: { authorization: `Bearer ${tokenOf("ann")}`, "content-type": "application/json" },
		body: JSON.stringify({ type: "threads.get_by_id", params: { thread_id: thread } }),
	});
	expect(await answer.json()).toMatchObject({ id: thread, title: "From React" });
	expect(foreignRequests).toEqual([]);
	await context.close();
	await server.remove();
	host.server.close();
	expect(errors.all).toEqual([]);
});
