import { expect, test } from "vitest";
import { Gate } from "./support/agent";
import { answerEnded, openConversation, PHONE, sendMessage, visitor } from "./support/browser";
import { withDatabase } from "./support/database";
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

/*
 * The list of conversations. Each test has a user of its own, and so an empty list.
 */
setUpTestServer();

test("conversations are grouped by date, the last active first", async () => {
	const now = Date.parse("2026-11-20T12:00:00Z");
	const daysAgo = [40, 5, 1, 0];
	for (const days of daysAgo) await client.send(`${days} days ago`);
	await server.stop();
	withDatabase(server.database, (_, run) => {
		for (const days of daysAgo) {
			const time = (now - days * 86_400_000) * 1_000;
			run(
				`update conversations set updated_at = ${time} where title = '${days} days ago' and owner = '${client.user}'`,
			);
		}
	});
	await server.run();
	await page.clock.setFixedTime(now);
	await openNewConversation();
	await listRow("40 days ago").waitFor();
	const days = () =>
		page
			.locator(".rows section")
			.evaluateAll((all) =>
				all.map((day) => [
					day.querySelector("h2")?.textContent,
					...[...day.querySelectorAll(".title")].map((title) => title.textContent),
				]),
			);
	await expect.poll(days).toEqual([
		["Today", "0 days ago"],
		["Yesterday", "1 days ago"],
		["Previous 7 days", "5 days ago"],
		["Older", "40 days ago"],
	]);
});

test("a conversation is renamed in the list and in the header; Escape cancels", async () => {
	await client.send("Old name");
	await openNewConversation();
	await listRow("Old name").locator("a").dblclick();
	await page.locator(".row .rename").fill("Better name");
	await page.keyboard.press("Enter");
	await listRow("Better name").waitFor();
	await page.getByRole("button", { name: "More for this conversation" }).click();
	await page.keyboard.press("Enter");
	await page.locator(".bar .rename").fill("Cancelled");
	await page.keyboard.press("Escape");
	await expect.poll(() => page.locator(".bar h1").textContent()).toBe("Better name");
	// The page shows a new name before the server has stored it.
	const stored = async () => {
		const list = await client.get<{ conversations: { title: string }[] }>("/conversations");
		return list.conversations.map((conversation) => conversation.title);
	};
	await expect.poll(stored).toEqual(["Better name"]);
});

test("a deletion can be undone for a while, and then reaches the server", async () => {
	const kept = await client.send("Kept after all");
	await client.send("Deleted");
	const titles = async () =>
		(await client.get<{ conversations: { title: string }[] }>("/conversations")).conversations.map(
			(conversation) => conversation.title,
		);
	const remove = async (title: string) => {
		await listRow(title).hover();
		await listRow(title).getByRole("button").click();
		await page.getByRole("menuitem", { name: "Delete" }).click();
		await listRow(title).waitFor({ state: "detached" });
	};
	await openConversation(page, kept.conversation_id);
	await remove("Kept after all");
	await page.locator(".start").waitFor();
	await page.getByRole("button", { name: "Undo" }).click();
	await page.locator(".msg").first().waitFor();
	await listRow("Kept after all").waitFor();
	await remove("Deleted");
	await expect.poll(titles).toEqual(["Deleted", "Kept after all"]);
	// Leaving the page ends the time for undoing.
	await page.goto("about:blank");
	await expect.poll(titles).toEqual(["Kept after all"]);
});

test("conversations are found by title, also after the list was hidden", async () => {
	for (const name of ["Rotterdam", "Duisburg", "rotterdam again"]) await client.send(name);
	await openNewConversation();
	await listRow("Duisburg").waitFor();
	await page.keyboard.press("Control+k");
	await page.keyboard.type("ROTTER");
	await expect
		.poll(() => page.locator(".row .title").allInnerTexts())
		.toEqual(["rotterdam again", "Rotterdam"]);
	await page.keyboard.type("zzz");
	await page.getByText("No conversation is called “ROTTERzzz”.").waitFor();
	await page.locator("#find").fill("");
	await page.getByRole("button", { name: "Hide the list of conversations" }).click();
	await page.keyboard.press("Control+k");
	await page.keyboard.type("duis");
	await expect.poll(() => page.locator(".row .title").allInnerTexts()).toEqual(["Duisburg"]);
});

test("two thousand conversations can be searched and scrolled to the last one", async () => {
	const COUNT = 2_000;
	await server.stop();
	withDatabase(server.database, (_, run) =>
		run(`insert into conversations (id, owner, title, created_at, updated_at, last_position, last_ordinal)
      with recursive numbers(number) as (select 1 union all select number + 1 from numbers where number < ${COUNT})
      select randomblob(16), '${client.user}', 'Number ' || number || '.', time, time, 0, 0
      from (select number, (1780000000 - number * 3600) * 1000000 as time from numbers)`),
	);
	await server.run();
	await openNewConversation();
	await listRow("Number 1.").waitFor();
	const rows = page.locator(".row");
	await page.locator(".rows").hover();
	await expect
		.poll(async () => {
			await page.mouse.wheel(0, 2_000);
			return rows.count();
		})
		.toBeGreaterThan(200);
	expect(await rows.count()).toBeLessThan(COUNT);
	await page.keyboard.press("Control+k");
	await page.keyboard.type(`NUMBER ${COUNT}`);
	await listRow(`Number ${COUNT}.`).waitFor();
	await page.locator("#find").fill("99.");
	await expect.poll(() => rows.count()).toBe(COUNT / 100);
	await page.locator("#find").fill("Number");
	await page.locator(".rows").hover();
	await expect
		.poll(
			async () => {
				await page.mouse.wheel(0, 100_000);
				return rows.count();
			},
			{ timeout: 20_000 },
		)
		.toBe(COUNT);
	await expect
		.poll(() => rows.locator(".title").allTextContents())
		.toEqual(Array.from({ length: COUNT }, (_, at) => `Number ${at + 1}.`));
});

test("Escape ends a search and does not stop the answer", async () => {
	const gate = new Gate();
	agent.on("Talk", { text: ["I talk and talk. ", "All said."], beforeLast: gate });
	await client.send("Another");
	await openNewConversation();
	await sendMessage(page, "Talk");
	await page.getByText("I talk and talk.").waitFor();
	await page.keyboard.press("Control+k");
	await page.keyboard.type("another");
	await expect.poll(() => page.locator(".row .title").allInnerTexts()).toEqual(["Another"]);
	await page.keyboard.press("Escape");
	await listRow("Talk").waitFor();
	await expect.poll(() => page.locator("#find").inputValue()).toBe("");
	gate.open();
	await answerEnded(page);
});

test("on a phone, the list is a drawer", async () => {
	await client.send("On the phone");
	const phone = await visitor(browser, server, client.user, PHONE);
	await phone.page.goto("/");
	await phone.page.getByRole("button", { name: "Show the list of conversations" }).tap();
	await phone.page.locator(".row", { hasText: "On the phone" }).locator("a").tap();
	await phone.page.locator(".msg").first().waitFor();
	await expect
		.poll(() => phone.page.locator(".side").evaluate((side) => getComputedStyle(side).visibility))
		.toBe("hidden");
	await phone.context.close();
	expect(phone.errors.all).toEqual([]);
});
