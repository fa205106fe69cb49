import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { Gate } from "./support/agent";
import { ask, composer, ended, open, visitor } from "./support/browser";
import { agent, browser, client, home, page, row, stage, start } from "./support/stage";

/*
 * What people do with the page. Each test is another user's: their list is their own.
 */
stage();

const last = () => page.locator(".turn.last");

test("a message is sent, its answer is streamed, and address, title and list follow", async () => {
	const gate = new Gate();
	agent.on("Show me code", {
		text: ["Here:\n\n```rust\nfn ma", "in() {}\n```\n", "Done."],
		beforeLast: gate,
	});
	await start();
	await ask(page, "Show me code");
	await page.locator(".md.live").getByText("fn main").waitFor();
	await expect.poll(() => new URL(page.url()).pathname).toMatch(/^\/c\/[\w-]{36}$/);
	await expect.poll(() => page.locator(".msg.bot").getAttribute("aria-busy")).toBe("true");
	gate.open();
	await ended(page);
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await expect.poll(() => page.locator(".code .hljs-keyword").count()).toBeGreaterThan(0);
	await expect.poll(() => page.locator(".bar h1").textContent()).toBe("Show me code");
	await expect.poll(() => page.title()).toBe("Show me code · Atlas");
	// What screen readers are told.
	await page
		.locator(".sr[aria-live]", { hasText: "Atlas answered. Here:" })
		.waitFor({ state: "attached" });
	await row("Show me code").waitFor();
	await expect
		.poll(() => page.locator(".took").textContent())
		.toMatch(/^\d+(\.\d)? m?s · 3 tokens$/);
	await page.reload();
	await ended(page);
	await expect
		.poll(() => page.locator(".took").textContent())
		.toMatch(/^\d+(\.\d)? m?s · 3 tokens$/);
});

test("a tool call stands where it was made and says how it stands: waiting, running with a clock, done, failed", async () => {
	const names = ["first", "second", "third"];
	const calls = names.map((gate) => ({ name: "wait", args: { gate: `${client.user}-${gate}` } }));
	agent.on(
		"Use tools",
		{ text: "I look it up.", calls },
		{ text: "One more.", calls: [{ name: "fail", args: { message: "No such order." } }] },
		{ text: "That is all." },
	);
	await start();
	await ask(page, "Use tools");
	const [first, second] = names.map((name) => agent.gate(`${client.user}-${name}`));
	await Promise.all([first!.reached, second!.reached]);
	const cards = page.locator(".tool");
	await expect
		.poll(() => cards.evaluateAll((all) => all.map((card) => card.className)))
		.toEqual(["tool is-running", "tool is-running", "tool is-waiting"]);
	const clock = cards.first().locator(".tool-time");
	const before = await clock.textContent();
	await expect.poll(() => clock.textContent()).not.toBe(before);
	first!.open();
	await cards.nth(2).and(page.locator(".is-running")).waitFor();
	second!.open();
	agent.gate(`${client.user}-third`).open();
	await ended(page);
	const content = page.locator(".content > *");
	await expect
		.poll(() => content.evaluateAll((all) => all.map((part) => part.className)))
		.toEqual(["md", "tools", "md", "tools", "md"]);
	const failed = page.locator(".tool.is-failed");
	await expect.poll(() => failed.locator(".tool-head").innerText()).toContain("No such order.");
	const head = cards.first().locator(".tool-head");
	await expect.poll(() => head.getAttribute("aria-expanded")).toBe("false");
	await head.press("Enter");
	await expect.poll(() => head.getAttribute("aria-expanded")).toBe("true");
	await expect
		.poll(() => cards.first().locator(".tool-body").innerText())
		.toMatch(/Parameters[\s\S]*gate[\s\S]*first[\s\S]*Result[\s\S]*waited_for/);
});

test("an answer is stopped by the button and by Escape; what had arrived is kept", async () => {
	for (const stop of [
		() => page.getByRole("button", { name: "Stop the answer" }).click(),
		() => composer(page).press("Escape"),
	]) {
		const gate = new Gate();
		agent.on("Talk", { text: ["I talk and talk. ", "Never said."], beforeLast: gate });
		await start();
		await ask(page, "Talk");
		await page.getByText("I talk and talk.").waitFor();
		await stop();
		await ended(page, "cancelled");
		gate.open();
		await expect
			.poll(() => page.locator(".msg.bot").innerText())
			.toMatch(/I talk and talk\.[\s\S]*Stopped at \d/);
		await expect
			.poll(() => page.getByRole("button", { name: "Send", exact: true }).isVisible())
			.toBe(true);
		await page.reload();
		await ended(page, "cancelled");
		await expect.poll(() => page.locator(".msg.bot").innerText()).toContain("I talk and talk.");
	}
});

test("a failure says what happened, and trying again keeps the failed answer to look at", async () => {
	agent.on(
		"Please fail",
		{ text: "I look.", calls: [{ name: "echo", args: {} }] },
		{ text: "I begin.", breaks: "server_overloaded" },
	);
	await start();
	await ask(page, "Please fail");
	const said = /^Atlas had too much to do\. Your message is saved; try again in a few seconds\./;
	await page.locator(".failed").waitFor();
	await expect.poll(() => page.locator(".failed").innerText()).toMatch(said);
	await page
		.locator(".sr[aria-live]", { hasText: "Your message is saved" })
		.waitFor({ state: "attached" });
	await page.reload();
	await page.locator(".failed").waitFor();
	await expect.poll(() => page.locator(".failed").innerText()).toMatch(said);
	await expect
		.poll(() => page.locator(".failed").innerText())
		.toMatch(/The agent is overloaded\.\s+agent_overloaded/);
	await expect
		.poll(() => page.locator(".msg.bot").innerText())
		.toMatch(/I look\.[\s\S]*echo[\s\S]*I begin\.[\s\S]*tokens?$/);
	agent.on("Please fail", { text: "Now it works." });
	await page.getByRole("button", { name: "Try again" }).click();
	await page.locator(".msg").getByText("Now it works.").waitFor();
	await ended(page);
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await page.getByRole("button", { name: "Earlier answer" }).click();
	await page.locator(".failed").waitFor();
	await expect
		.poll(() => page.locator(".msg.bot").innerText())
		.toMatch(/An earlier answer[\s\S]*I begin\.[\s\S]*1 \/ 2/);
});

test("an answer that was cut off says so, and so does one for which the oldest messages were not read, also after a reload", async () => {
	agent.on("Tell me all", { text: "It began", finish: "length" });
	agent.on("Say it", { text: "I may not", finish: "content_filter" });
	agent.on("Go on", { text: "And so on.", reads: 2 });
	await start();
	for (const question of ["Tell me all", "Say it", "Go on"]) {
		await ask(page, question);
		await ended(page);
	}
	const notes = [
		"The answer was cut off at the model’s limit.",
		"A content filter withheld the rest of the answer.",
		"The conversation is too long to read as a whole: its oldest message and answer were left out.",
	];
	const shown = page.locator(".msg.bot .stopped");
	await expect.poll(() => shown.allTextContents()).toEqual(notes);
	expect(await page.locator(".failed").count()).toBe(0);
	await page.reload();
	await expect.poll(() => shown.allTextContents()).toEqual(notes);
});

test("an answer is given again, and all earlier ones can be looked at, also after a reload", async () => {
	await start();
	for (const [at, text] of ["One.", "Two.", "Three."].entries()) {
		agent.on("Again", { text });
		if (at === 0) await ask(page, "Again");
		else await page.getByRole("button", { name: "Answer again" }).click();
		await last().getByText(text).waitFor();
		await ended(page);
	}
	await page.reload();
	await ended(page);
	const answer = last().locator(".msg.bot");
	await expect.poll(() => answer.innerText()).toContain("Three.");
	for (const text of ["Two.", "One."]) {
		await page.getByRole("button", { name: "Earlier answer" }).click();
		await answer.getByText(text).waitFor();
	}
	await expect
		.poll(() => page.getByRole("button", { name: "Earlier answer" }).isDisabled())
		.toBe(true);
	await page.getByRole("button", { name: "Later answer" }).click();
	await page.getByRole("button", { name: "Later answer" }).click();
	await answer.getByText("Three.").waitFor();
	await expect.poll(() => answer.innerText()).toMatch(/3 \/ 3/);
});

test("messages sent meanwhile wait their turn, can be taken back, and are answered in order", async () => {
	const gate = new Gate();
	agent.on("First", { text: ["Answer one", " ends."], beforeLast: gate });
	await start();
	await ask(page, "First");
	await page.getByText("Answer one").waitFor();
	for (const text of ["Second", "Third", "Fourth"]) {
		await ask(page, text);
		await page.locator(".bubble", { hasText: text }).waitFor();
	}
	await expect.poll(() => page.locator(".fate", { hasText: "Waits" }).count()).toBe(3);
	await page
		.locator(".turn", { hasText: "Third" })
		.getByRole("button", { name: "Take back" })
		.click();
	await page.getByText("Taken back. It will not be answered.").waitFor();
	gate.open();
	await page.locator(".msg").getByText("You said: Fourth").waitFor();
	await ended(page);
	const said = await page.locator(".bubble").allTextContents();
	expect(said).toEqual(["First", "Second", "Third", "Fourth"]);
	await expect.poll(() => page.locator(".msg.bot").count()).toBe(3);
	await expect
		.poll(() => page.locator(".turn", { hasText: "Third" }).innerText())
		.toContain("Stopped before it was answered");
});

test("what was typed outlives a reload and another conversation, and is not sent before it is sent", async () => {
	const other = await client.say("Other");
	await start();
	await composer(page).fill("Half a thou");
	await page.reload();
	await page.locator(".start").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Half a thou");
	await row("Other").locator("a").click();
	await page.locator(".msg").first().waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("");
	await composer(page).fill("To the other");
	await page.getByRole("button", { name: "New chat" }).first().click();
	await expect.poll(() => composer(page).inputValue()).toBe("Half a thou");
	await open(page, other.conversation_id);
	await expect.poll(() => composer(page).inputValue()).toBe("To the other");
});

test("all can be done by keyboard", async () => {
	await client.say("Find me");
	await start();
	await row("Find me").waitFor();
	await page.keyboard.press("Control+k");
	await page.keyboard.type("find");
	await page.keyboard.press("Tab");
	await page.keyboard.press("Enter");
	await page.locator(".msg").first().waitFor();
	await page.locator(".scroll").focus();
	await page.keyboard.press("/");
	await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe("composer");
	await page.keyboard.type("a");
	await page.keyboard.press("Shift+Enter");
	await page.keyboard.type("b?");
	await expect.poll(() => composer(page).inputValue()).toBe("a\nb?");
	await page.keyboard.press("Alt+ArrowUp");
	await expect
		.poll(() => page.evaluate(() => document.activeElement?.classList.contains("msg")))
		.toBe(true);
	await page.keyboard.press("?");
	await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
	await page.keyboard.press("Escape");
	await page.getByRole("dialog").waitFor({ state: "detached" });
	await page.keyboard.press("Control+Shift+O");
	await page.locator(".start").waitFor();
});

test("an answer and its code are copied as they were written", async () => {
	await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
	const text = 'See **this**:\n\n```py\nprint("<b>")\n```';
	agent.on("Copy", { text });
	await start();
	await ask(page, "Copy");
	await ended(page);
	const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
	await page.getByRole("button", { name: "Copy answer" }).click();
	await expect.poll(clipboard).toBe(text);
	await page.getByRole("button", { name: "Copy code" }).click();
	await expect.poll(clipboard).toBe('print("<b>")');
});

test("a conversation is exported as Markdown and, earlier answers included, as JSON", async () => {
	agent.on("Export", { text: "First." });
	const { conversation_id, turn_id } = await client.say("Export");
	agent.on(
		"Export",
		{ text: "Second.", calls: [{ name: "echo", args: { answer: "[12345678901234567890]" } }] },
		{ text: "Done." },
	);
	await client.call("POST", `/turns/${turn_id}/retry`);
	await open(page, conversation_id);
	const save = async (name: string) => {
		await page.getByRole("button", { name: "More for this conversation" }).click();
		const [download] = await Promise.all([
			page.waitForEvent("download"),
			page.getByRole("menuitem", { name }).click(),
		]);
		return [download.suggestedFilename(), await readFile(await download.path(), "utf8")] as const;
	};
	const [markdownName, markdown] = await save("Export as Markdown");
	expect(markdownName).toBe("Export.md");
	expect(markdown).toMatch(
		/^# Export\n\n## user-\d+, [\s\S]*Second\.[\s\S]*Tool call: \*\*echo\*\*[\s\S]*12345678901234567890[\s\S]*Done\.\n$/,
	);
	expect(markdown).not.toContain("First.");
	const [jsonName, json] = await save("Export as JSON");
	expect(jsonName).toBe("Export.json");
	const messages = (JSON.parse(json) as { messages: { content: string }[] }).messages;
	expect(messages.map((message) => message.content)).toEqual([
		"Export",
		"First.",
		"Export",
		"Second.\n\nDone.",
	]);
	expect(json).toContain("12345678901234567890");
});

test("what was read stays where it is while text arrives below it", async () => {
	const rest = new Gate();
	const text =
		"# Why\n\nSome *words*.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nfn main() {}\n```\n\n1. one\n2. two\n\n";
	agent.on("Grow", { text: [text, ...text.repeat(3).split(/(?<= )/), "End."], before: rest });
	await start();
	await ask(page, "Grow");
	await rest.reached;
	// Where each block stands on the page, whatever is scrolled; a block that was seen once may only grow downwards.
	await page.evaluate(() => {
		const moved: string[] = [];
		Object.assign(window, { moved });
		const tops = new Map<Element, number>();
		const look = () => {
			const column = document.querySelector(".column")?.getBoundingClientRect().top ?? 0;
			for (const block of document.querySelectorAll(
				".msg, .msg.bot .md > *, .msg.bot .md li, .msg.bot .md tr",
			)) {
				const top = block.getBoundingClientRect().top - column;
				const before = tops.get(block) ?? top;
				if (Math.abs(top - before) > 1)
					moved.push(`${block.tagName} ${before} ${top} ${block.textContent?.slice(0, 20)}`);
				tops.set(block, top);
			}
			requestAnimationFrame(look);
		};
		look();
	});
	rest.open();
	await ended(page);
	await page.locator(".code .hljs-keyword").nth(3).waitFor();
	expect(await page.evaluate(() => (window as unknown as { moved: string[] }).moved)).toEqual([]);
});

test("who reads further up is left there while text arrives, and is led back", async () => {
	const lines = Array.from({ length: 60 }, (_, line) => `Line ${line}\n\n`);
	const [half, end] = [new Gate(), new Gate()];
	agent.on("Long", { text: lines, beforeLast: half }, { text: "x" });
	await start();
	await ask(page, "Long");
	await page.getByText("Line 58").waitFor();
	const scroll = page.locator(".scroll");
	const below = () => scroll.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight);
	await expect.poll(below).toBeLessThan(40);
	await page.mouse.move(700, 400);
	await page.mouse.wheel(0, -500);
	await page.locator(".jump").waitFor();
	const top = await scroll.evaluate((box) => box.scrollTop);
	half.open();
	await ended(page);
	expect(await scroll.evaluate((box) => box.scrollTop)).toBe(top);
	await page.locator(".jump").click();
	await expect.poll(below).toBeLessThan(40);
	end.open();
});

test("earlier messages come when one scrolls up, and the place stays", async () => {
	let conversation: string | undefined;
	for (let at = 0; at < 40; at++)
		conversation = (await client.say(`Message ${at} of forty`, conversation)).conversation_id;
	await open(page, conversation!);
	await page.getByText("You said: Message 39").waitFor();
	const scroll = page.locator(".scroll");
	const messages = page.locator(".msg");
	const first = page.locator(".bubble", { hasText: /^Message 30 of forty$/ });
	await first.waitFor({ state: "attached" });
	await scroll.evaluate((box) => {
		box.scrollTop = 700;
	});
	const place = () => first.evaluate((bubble) => Math.round(bubble.getBoundingClientRect().top));
	const before = await place();
	await scroll.evaluate((box) => {
		box.scrollTop -= 300;
	});
	await expect.poll(() => messages.count()).toBeGreaterThan(30);
	// Places are rounded.
	await expect.poll(async () => Math.abs((await place()) - before - 300)).toBeLessThan(3);
	await expect
		.poll(async () => {
			await scroll.evaluate((box) => {
				box.scrollTop = 0;
			});
			return messages.count();
		})
		.toBe(80);
	const order = await page.locator(".bubble").allTextContents();
	expect(order).toEqual(Array.from({ length: 40 }, (_, at) => `Message ${at} of forty`));
});

test("right-to-left text runs from the right, whatever stands around it", async () => {
	agent.on("مرحبا، كيف الحال؟", { text: "أهلاً **بك**\n\n- واحد\n- اثنان" });
	await start();
	await ask(page, "مرحبا، كيف الحال؟");
	await ended(page);
	const direction = (selector: string) =>
		page
			.locator(selector)
			.first()
			.evaluate((element) => getComputedStyle(element).direction);
	await expect.poll(() => direction(".bubble .said")).toBe("rtl");
	await expect.poll(() => direction(".msg.bot .md")).toBe("rtl");
	await expect.poll(() => direction(".row .title")).toBe("rtl");
	await expect.poll(() => direction(".bar")).toBe("ltr");
});

test("times are those of the place where the reader is", async () => {
	const { conversation_id } = await client.say("When?");
	for (const [timezoneId, locale] of [
		["Pacific/Kiritimati", "en-GB"],
		["America/Los_Angeles", "en-GB"],
	] as const) {
		const abroad = await visitor(browser, home, client.user, { timezoneId, locale });
		await open(abroad.page, conversation_id);
		const time = abroad.page.locator(".msg.user time").first();
		const at = new Date((await time.getAttribute("datetime")) ?? "");
		await expect
			.poll(() => time.textContent())
			.toBe(
				new Intl.DateTimeFormat(locale, {
					timeZone: timezoneId,
					hour: "2-digit",
					minute: "2-digit",
				}).format(at),
			);
		await expect
			.poll(() => time.getAttribute("title"))
			.toBe(
				new Intl.DateTimeFormat(locale, {
					timeZone: timezoneId,
					dateStyle: "full",
					timeStyle: "long",
				}).format(at),
			);
		await abroad.context.close();
		expect(abroad.faults.all).toEqual([]);
	}
});

test("a message that is too long is counted and not sent", async () => {
	await start();
	await composer(page).fill("😀".repeat(4_990));
	await page.getByText("10 left").waitFor();
	await composer(page).fill("😀".repeat(5_001));
	await page.getByText("1 too many").waitFor();
	await expect
		.poll(() => page.getByRole("button", { name: "Send", exact: true }).isDisabled())
		.toBe(true);
});

test("a conversation that is not there says so", async () => {
	await page.goto("/c/01a1fc3b-5b9b-77e2-a336-e8aa912c7fa7");
	await page.getByText("There is no such conversation.").waitFor();
	await page.locator(".state").getByRole("button", { name: "New conversation" }).click();
	await page.locator(".start").waitFor();
});

test("nothing is wider than the screen, from 320 pixels to 4K", async () => {
	agent.on("Wide", {
		text: `${"x".repeat(400)}\n\n| ${"col | ".repeat(12)}\n|${"---|".repeat(12)}\n| ${"cell cell | ".repeat(12)}\n\n\`\`\`\n${"y".repeat(500)}\n\`\`\``,
		calls: [
			{
				name: "echo",
				args: { [`${"k".repeat(80)}`]: "v".repeat(400), answer: JSON.stringify(["z".repeat(500)]) },
			},
		],
	});
	const { conversation_id } = await client.say("Wide");
	for (const width of [320, 390, 768, 1_280, 2_560, 3_840]) {
		await page.setViewportSize({ width, height: 900 });
		await open(page, conversation_id);
		await page.locator(".tool-head").click();
		const widest = await page.evaluate(() => document.documentElement.scrollWidth);
		const column = await page
			.locator(".scroll")
			.evaluate((box) => box.scrollWidth - box.clientWidth);
		expect([widest, column], `${width}`).toEqual([width, 0]);
	}
});
