import { join } from "node:path";
import { test } from "vitest";
import { Agent } from "./support/agent";
import { launch, PHONE, visitor } from "./support/browser";
import { SCENES, showList, streaming } from "./support/scenes";
import { Client, Home } from "./support/server";
import { SUGGESTIONS, tell } from "./support/story";
import { NOW, settleTimes } from "./support/times";

/** The pictures of README.md and docs/ui.md: the real page, with a story. */
test("take the pictures", { timeout: 180_000 }, async () => {
	const folder = join(import.meta.dirname, "../../../../docs/pictures");
	const agent = await Agent.start();
	const home = await Home.start(agent, {
		CHAT_PAGE_NAME: "Atlas",
		CHAT_PAGE_SUGGESTIONS: SUGGESTIONS,
	});
	const browser = await launch();
	const ids = await tell(agent, new Client(home, "mara"));
	await settleTimes(home);
	const arrive = async (colorScheme: "light" | "dark", options: object = {}) =>
		(await visitor(browser, home, "mara", { colorScheme, reducedMotion: "reduce", ...options }))
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
	// What happens now has the time of now.
	await settleTimes(home, new Date());
	const now = await arrive("dark");
	const rest = await streaming(agent, now);
	await shoot(now, "streaming-dark");
	rest.open();
	await browser.close();
	await home.remove();
	agent.stop();
});
