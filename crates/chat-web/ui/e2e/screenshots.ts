import { join } from "node:path";
import { test } from "vitest";
import { Agent } from "./support/agent";
import { launch, PHONE, visitor } from "./support/browser";
import { createConversations, SUGGESTIONS } from "./support/demo-conversations";
import { fixTimes, NOW } from "./support/fixed-times";
import { SCENES, showList, showStreaming } from "./support/scenes";
import { Client, TestServer } from "./support/server";

/** Takes the pictures of README.md and docs/ui.md: the real page with demo conversations. */
test("take the pictures", { timeout: 180_000 }, async () => {
	const folder = join(import.meta.dirname, "../../../../docs/pictures");
	const agent = await Agent.start();
	const server = await TestServer.start(agent, {
		CHAT_PAGE_NAME: "Atlas",
		CHAT_PAGE_SUGGESTIONS: SUGGESTIONS,
	});
	const browser = await launch();
	const ids = await createConversations(agent, new Client(server, "mara"));
	await fixTimes(server);
	const arrive = async (colorScheme: "light" | "dark", options: object = {}) =>
		(await visitor(browser, server, "mara", { colorScheme, reducedMotion: "reduce", ...options }))
			.page;
	const [light, dark, lightPhone, darkPhone] = [
		await arrive("light"),
		await arrive("dark"),
		await arrive("light", PHONE),
		await arrive("dark", PHONE),
	];
	const shoot = async (page: typeof light, name: string) => {
		await page.evaluate(() => document.fonts.ready);
		await page.screenshot({
			path: join(folder, `${name}.png`),
			animations: "disabled",
			caret: "hide",
		});
	};
	for (const [page, scene, name] of [
		[light, "start", "start-light"],
		[light, "tools", "tools-light"],
		[light, "failure", "failure-light"],
		[light, "stopped", "stopped-light"],
		[dark, "code", "code-dark"],
		[darkPhone, "tools", "tools-phone"],
		[lightPhone, "thread", "thread-phone"],
	] as const) {
		await page.clock.setFixedTime(NOW);
		await SCENES[scene]?.(page, ids);
		await shoot(page, name);
	}
	await showList(lightPhone);
	await shoot(lightPhone, "list-phone");
	// A new turn has the current time.
	await fixTimes(server, new Date());
	const now = await arrive("dark");
	const rest = await showStreaming(agent, now);
	await shoot(now, "streaming-dark");
	rest.open();
	await browser.close();
	await server.remove();
	agent.stop();
});
