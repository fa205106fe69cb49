import { join } from "node:path";
import type { OpenAIChatKit } from "@openai/chatkit";
import type { Browser } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Agent } from "./support/agent";
import { launch, visitor } from "./support/browser";
import { Home, tokenOf } from "./support/server";
import { site } from "./support/site";

/*
 * A page that was written for OpenAI's ChatKit, with OpenAI's own package for React, has this chat on it, and nothing from elsewhere.
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
			heard: [name: string, detail: unknown][];
		};
	}
}

/** The page's script, as its author's tools make it. */
async function script(): Promise<string> {
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
	if (!result || !("output" in result)) throw new Error("nothing was built");
	return result.output[0].code;
}

test("a page written for ChatKit in React works with this page instead", async () => {
	const page_ = await script();
	let server = "";
	const host = await site((path) => {
		if (path === "/token") return ["text/plain", tokenOf("ann", 3_600, { name: "Ann" })];
		if (path === "/page.js") return ["text/javascript", page_];
		const html = `<!doctype html><div id="root"></div><script src="${server}/embed.js?as=openai-chatkit"></script><script type="module" src="/page.js"></script>`;
		return path === "/" ? ["text/html", html] : null;
	});
	const home = await Home.start(agent, { CHAT_PAGE_EMBEDDERS: host.url });
	server = home.url;
	agent.on("From React", { text: "To React." });
	const { context, page, faults } = await visitor(browser, home, null, { baseURL: host.url });
	const strangers: string[] = [];
	page.on("request", (request) => {
		if (![home.url, host.url].includes(new URL(request.url()).origin))
			strangers.push(request.url());
	});
	await page.goto("/");
	const frame = page.frameLocator('openai-chatkit iframe[title="Ask us"]');
	await frame.locator(".start").waitFor();
	await frame.locator("html[data-theme=dark]").waitFor({ state: "attached" });
	const heard = () => page.evaluate(() => window.chat.heard);
	await page.evaluate(() => window.chat.sendUserMessage({ text: "From React" }));
	await frame.locator(".msg.bot[data-status=completed]").getByText("To React.").waitFor();
	await expect.poll(async () => (await heard()).at(-1)).toEqual(["end", null]);
	const events = await heard();
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
	// It is a thread of the same name for a front end that speaks ChatKit's own protocol.
	const answer = await fetch(`${home.url}/chatkit`, {
		method: "POST",
		headers: { authorization: `Bearer ${tokenOf("ann")}`, "content-type": "application/json" },
		body: JSON.stringify({ type: "threads.get_by_id", params: { thread_id: thread } }),
	});
	expect(await answer.json()).toMatchObject({ id: thread, title: "From React" });
	expect(strangers).toEqual([]);
	await context.close();
	await home.remove();
	host.server.close();
	expect(faults.all).toEqual([]);
});
