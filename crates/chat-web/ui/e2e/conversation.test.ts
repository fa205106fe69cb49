import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { Gate } from "./support/agent";
import {
	answerEnded,
	answersEnded,
	composer,
	openConversation,
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

/*
 * Using a conversation. Each test has a user of its own, and so an empty list.
 */
setUpTestServer();

const last = () => page.locator(".turn.last");

test("a message is sent, its answer is streamed, and address, title and list are updated", async () => {
	const gate = new Gate();
	agent.on("Show me code", {
		text: ["Here:\n\n```rust\nfn ma", "in() {}\n```\n", "Done."],
		beforeLast: gate,
	});
	await openNewConversation();
	await sendMessage(page, "Show me code");
	await page.locator(".md.live").getByText("fn main").waitFor();
	await expect.poll(() => new URL(page.url()).pathname).toMatch(/^\/c\/[\w-]{36}$/);
	await expect.poll(() => page.locator(".msg.bot").getAttribute("aria-busy")).toBe("true");
	gate.open();
	await answerEnded(page);
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await expect.poll(() => page.locator(".code .hljs-keyword").count()).toBeGreaterThan(0);
	await expect.poll(() => page.locator(".bar h1").textContent()).toBe("Show me code");
	await expect.poll(() => page.title()).toBe("Show me code · Atlas");
	await page
		.locator(".sr[aria-live]", { hasText: "Atlas answered. Here:" })
		.waitFor({ state: "attached" });
	await listRow("Show me code").waitFor();
	await expect
		.poll(() => page.locator(".turn-duration").textContent())
		.toMatch(/^\d+(\.\d)? m?s · 3 tokens$/);
	await page.reload();
	await answerEnded(page);
	await expect
		.poll(() => page.locator(".turn-duration").textContent())
		.toMatch(/^\d+(\.\d)? m?s · 3 tokens$/);
});

test("a tool call is shown in its place with its state: waiting, running with a clock, done, failed", async () => {
	const names = ["first", "second", "third"];
	const calls = names.map((gate) => ({ name: "wait", args: { gate: `${client.user}-${gate}` } }));
	agent.on(
		"Use tools",
		{ text: "I look it up.", calls },
		{ text: "One more.", calls: [{ name: "fail", args: { message: "No such order." } }] },
		{ text: "That is all." },
	);
	await openNewConversation();
	await sendMessage(page, "Use tools");
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
	await answerEnded(page);
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

test("an answer is stopped by the button and by Escape; the text so far is kept", async () => {
	for (const stop of [
		() => page.getByRole("button", { name: "Stop the answer" }).click(),
		() => composer(page).press("Escape"),
	]) {
		const gate = new Gate();
		agent.on("Talk", { text: ["I talk and talk. ", "Never said."], beforeLast: gate });
		await openNewConversation();
		await sendMessage(page, "Talk");
		await page.getByText("I talk and talk.").waitFor();
		await stop();
		await answerEnded(page, "cancelled");
		gate.open();
		await expect
			.poll(() => page.locator(".msg.bot").innerText())
			.toMatch(/I talk and talk\.[\s\S]*Stopped at \d/);
		await expect
			.poll(() => page.getByRole("button", { name: "Send", exact: true }).isVisible())
			.toBe(true);
		await page.reload();
		await answerEnded(page, "cancelled");
		await expect.poll(() => page.locator(".msg.bot").innerText()).toContain("I talk and talk.");
	}
});

test("a failure is described, and a retry keeps the failed answer", async () => {
	agent.on(
		"Please fail",
		{ text: "I look.", calls: [{ name: "echo", args: {} }] },
		{ text: "I begin.", errorCode: "server_overloaded" },
	);
	await openNewConversation();
	await sendMessage(page, "Please fail");
	const description =
		/^Atlas was overloaded\. Your message is saved\. Try again in a few seconds\./;
	await page.locator(".failed").waitFor();
	await expect.poll(() => page.locator(".failed").innerText()).toMatch(description);
	await page
		.locator(".sr[aria-live]", { hasText: "Your message is saved" })
		.waitFor({ state: "attached" });
	await page.reload();
	await page.locator(".failed").waitFor();
	await expect.poll(() => page.locator(".failed").innerText()).toMatch(description);
	await expect
		.poll(() => page.locator(".failed").innerText())
		.toMatch(/The agent is overloaded\.\s+agent_overloaded/);
	await expect
		.poll(() => page.locator(".msg.bot").innerText())
		.toMatch(/I look\.[\s\S]*echo[\s\S]*I begin\.[\s\S]*tokens?$/);
	agent.on("Please fail", { text: "Now it works." });
	await page.getByRole("button", { name: "Try again" }).click();
	await page.locator(".msg").getByText("Now it works.").waitFor();
	await answerEnded(page);
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await page.getByRole("button", { name: "Earlier answer" }).click();
	await page.locator(".failed").waitFor();
	await expect
		.poll(() => page.locator(".msg.bot").innerText())
		.toMatch(/An earlier answer[\s\S]*I begin\.[\s\S]*1 \/ 2/);
});

test("a cut-off answer, and one for which messages were left out, have a note, also after a reload", async () => {
	agent.on("Tell me all", { text: "It began", finishReason: "length" });
	agent.on("Say it", { text: "I may not", finishReason: "content_filter" });
	agent.on("Go on", { text: "And so on.", maxUserMessages: 2 });
	await openNewConversation();
	for (const [index, question] of ["Tell me all", "Say it", "Go on"].entries()) {
		await sendMessage(page, question);
		await answersEnded(page, index + 1);
	}
	const notes = [
		"The answer was cut off at the model’s limit.",
		"A content filter withheld the rest of the answer.",
		"The conversation is too long for the agent: its oldest message and answer were left out.",
	];
	const shown = page.locator(".msg.bot .stopped");
	await expect.poll(() => shown.allTextContents()).toEqual(notes);
	expect(await page.locator(".failed").count()).toBe(0);
	await page.reload();
	await expect.poll(() => shown.allTextContents()).toEqual(notes);
});

test("an answer is retried, and all earlier answers can be shown, also after a reload", async () => {
	await openNewConversation();
	for (const [at, text] of ["One.", "Two.", "Three."].entries()) {
		agent.on("Again", { text });
		if (at === 0) await sendMessage(page, "Again");
		else await page.getByRole("button", { name: "Answer again" }).click();
		await last().getByText(text).waitFor();
		await answerEnded(page);
	}
	await page.reload();
	await answerEnded(page);
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

test("messages sent during an answer are queued, can be withdrawn, and are answered in order", async () => {
	const gate = new Gate();
	agent.on("First", { text: ["Answer one", " ends."], beforeLast: gate });
	await openNewConversation();
	await sendMessage(page, "First");
	await page.getByText("Answer one").waitFor();
	for (const text of ["Second", "Third", "Fourth"]) {
		await sendMessage(page, text);
		await page.locator(".bubble", { hasText: text }).waitFor();
	}
	await expect.poll(() => page.locator(".message-status", { hasText: "Waiting" }).count()).toBe(3);
	await page
		.locator(".turn", { hasText: "Third" })
		.getByRole("button", { name: "Withdraw" })
		.click();
	await page.getByText("Withdrawn. This message will not be answered.").waitFor();
	gate.open();
	await page.locator(".msg").getByText("You said: Fourth").waitFor();
	await answerEnded(page);
	await expect
		.poll(() => page.locator(".bubble").allTextContents())
		.toEqual(["First", "Second", "Third", "Fourth"]);
	await expect.poll(() => page.locator(".msg.bot").count()).toBe(3);
	await expect
		.poll(() => page.locator(".turn", { hasText: "Third" }).innerText())
		.toContain("Stopped before it was answered");
});

test("a draft is kept during reloads and visits to other conversations", async () => {
	const other = await client.send("Other");
	await openNewConversation();
	await composer(page).fill("Half a thou");
	await page.reload();
	await page.locator(".start").waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("Half a thou");
	await listRow("Other").locator("a").click();
	await page.locator(".msg").first().waitFor();
	await expect.poll(() => composer(page).inputValue()).toBe("");
	await composer(page).fill("To the other");
	await page.getByRole("button", { name: "New chat" }).first().click();
	await expect.poll(() => composer(page).inputValue()).toBe("Half a thou");
	await openConversation(page, other.conversation_id);
	await expect.poll(() => composer(page).inputValue()).toBe("To the other");
});

test("everything can be done by keyboard", async () => {
	await client.send("Find me");
	await openNewConversation();
	await listRow("Find me").waitFor();
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

test("an answer and its code are copied as their source text", async () => {
	await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
	const text = 'See **this**:\n\n```py\nprint("<b>")\n```';
	agent.on("Copy", { text });
	await openNewConversation();
	await sendMessage(page, "Copy");
	await answerEnded(page);
	const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
	await page.getByRole("button", { name: "Copy answer" }).click();
	await expect.poll(clipboard).toBe(text);
	await page.getByRole("button", { name: "Copy code" }).click();
	await expect.poll(clipboard).toBe('print("<b>")');
});

test("a conversation is exported as Markdown, and with earlier answers as JSON", async () => {
	agent.on("Export", { text: "First." });
	const { conversation_id, turn_id } = await client.send("Export");
	agent.on(
		"Export",
		{ text: "Second.", calls: [{ name: "echo", args: { answer: "[12345678901234567890]" } }] },
		{ text: "Done." },
	);
	await client.call("POST", `/turns/${turn_id}/retry`);
	await openConversation(page, conversation_id);
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

test("text stays in place while more text arrives below it", async () => {
	const rest = new Gate();
	const text =
		"# Why\n\nSome *words*.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nfn main() {}\n```\n\n1. one\n2. two\n\n";
	agent.on("Grow", { text: [text, ...text.repeat(3).split(/(?<= )/), "End."], before: rest });
	await openNewConversation();
	await sendMessage(page, "Grow");
	await rest.reached;
	// Records each block whose position in the column changes; a block may only grow downwards.
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
	await answerEnded(page);
	await page.locator(".code .hljs-keyword").nth(3).waitFor();
	expect(await page.evaluate(() => (window as unknown as { moved: string[] }).moved)).toEqual([]);
});

test("the scroll position is kept while text arrives, and a button leads to the end", async () => {
	const lines = Array.from({ length: 60 }, (_, line) => `Line ${line}\n\n`);
	const [half, end] = [new Gate(), new Gate()];
	agent.on("Long", { text: lines, beforeLast: half }, { text: "x" });
	await openNewConversation();
	await sendMessage(page, "Long");
	await page.getByText("Line 58").waitFor();
	const scroll = page.locator(".scroll");
	const below = () => scroll.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight);
	await expect.poll(below).toBeLessThan(40);
	await page.mouse.move(700, 400);
	await page.mouse.wheel(0, -500);
	await page.locator(".jump").waitFor();
	const top = await scroll.evaluate((box) => box.scrollTop);
	half.open();
	await answerEnded(page);
	expect(await scroll.evaluate((box) => box.scrollTop)).toBe(top);
	await page.locator(".jump").click();
	await expect.poll(below).toBeLessThan(40);
	end.open();
});

test("earlier messages are loaded when the user scrolls up, and the position is kept", async () => {
	let conversation: string | undefined;
	for (let at = 0; at < 40; at++)
		conversation = (await client.send(`Message ${at} of forty`, conversation)).conversation_id;
	await openConversation(page, conversation!);
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
	// Positions are rounded.
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

test("right-to-left text is displayed from the right in a left-to-right page", async () => {
	agent.on("مرحبا، كيف الحال؟", { text: "أهلاً **بك**\n\n- واحد\n- اثنان" });
	await openNewConversation();
	await sendMessage(page, "مرحبا، كيف الحال؟");
	await answerEnded(page);
	const direction = (selector: string) =>
		page
			.locator(selector)
			.first()
			.evaluate((element) => getComputedStyle(element).direction);
	await expect.poll(() => direction(".bubble .message-text")).toBe("rtl");
	await expect.poll(() => direction(".msg.bot .md")).toBe("rtl");
	await expect.poll(() => direction(".row .title")).toBe("rtl");
	await expect.poll(() => direction(".bar")).toBe("ltr");
});

test("times are displayed in the user's time zone", async () => {
	const { conversation_id } = await client.send("When?");
	for (const [timezoneId, locale] of [
		["Pacific/Kiritimati", "en-GB"],
		["America/Los_Angeles", "en-GB"],
	] as const) {
		const abroad = await visitor(browser, server, client.user, { timezoneId, locale });
		await openConversation(abroad.page, conversation_id);
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
		expect(abroad.errors.all).toEqual([]);
	}
});

test("a message that is too long is counted and not sent", async () => {
	await openNewConversation();
	await composer(page).fill("😀".repeat(4_990));
	await page.getByText("10 left").waitFor();
	await composer(page).fill("😀".repeat(5_001));
	await page.getByText("1 too many").waitFor();
	await expect
		.poll(() => page.getByRole("button", { name: "Send", exact: true }).isDisabled())
		.toBe(true);
});

test("a missing conversation is reported", async () => {
	await page.goto("/c/01a1fc3b-5b9b-77e2-a336-e8aa912c7fa7");
	await page.getByText("There is no such conversation.").waitFor();
	await page.locator(".state").getByRole("button", { name: "New conversation" }).click();
	await page.locator(".start").waitFor();
});

test("no content is wider than the screen, from 320 pixels to 4K", async () => {
	agent.on("Wide", {
		text: `${"x".repeat(400)}\n\n| ${"col | ".repeat(12)}\n|${"---|".repeat(12)}\n| ${"cell cell | ".repeat(12)}\n\n\`\`\`\n${"y".repeat(500)}\n\`\`\``,
		calls: [
			{
				name: "echo",
				args: { [`${"k".repeat(80)}`]: "v".repeat(400), answer: JSON.stringify(["z".repeat(500)]) },
			},
		],
	});
	const { conversation_id } = await client.send("Wide");
	for (const width of [320, 390, 768, 1_280, 2_560, 3_840]) {
		await page.setViewportSize({ width, height: 900 });
		await openConversation(page, conversation_id);
		await page.locator(".tool-head").click();
		const widest = await page.evaluate(() => document.documentElement.scrollWidth);
		const column = await page
			.locator(".scroll")
			.evaluate((box) => box.scrollWidth - box.clientWidth);
		expect([widest, column], `${width}`).toEqual([width, 0]);
	}
});
