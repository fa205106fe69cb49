import { expect, test } from "vitest";
import { Gate } from "./support/agent";
import { answerEnded, answersEnded, openConversation, sendMessage } from "./support/browser";
import { agent, client, openNewConversation, page, setUpTestServer } from "./support/fixture";

/*
 * Displaying any text correctly. Each test has a user of its own, and so an empty list.
 */
setUpTestServer();

test("the user's text is shown without formatting", async () => {
	const typed =
		"Ann Example\n  1 Main St.\n\n# no heading\n    four spaces\nC:\\new\\*.txt and __init__ and <b>x</b> &amp; a\tb";
	await openNewConversation();
	await sendMessage(page, typed);
	await answerEnded(page);
	for (let times = 0; times < 2; times++) {
		await expect.poll(() => page.locator(".bubble").innerText()).toBe(typed);
		expect(await page.locator(".bubble").locator("h4, strong, em, code, a").count()).toBe(0);
		await page.reload();
		await answerEnded(page);
	}
});

test("a deeply nested message is shown and the rest of the page works", async () => {
	const endless = ["> ".repeat(600), ">".repeat(1_200), "- ".repeat(900)];
	agent.on("Loop", { text: endless.map((line) => `${line}end`).join("\n\n") });
	const other = await client.send("Other");
	await openNewConversation();
	await sendMessage(page, "Loop");
	await answerEnded(page);
	await page.locator(".note").waitFor();
	await sendMessage(page, endless[0]!);
	await answersEnded(page, 2);
	await page.reload();
	await answerEnded(page);
	await expect.poll(() => page.locator(".msg").count()).toBe(4);
	await expect.poll(() => page.locator(".msg.bot").first().textContent()).toContain("end");
	await page.locator(".row", { hasText: "Other" }).locator("a").click();
	await page.locator(".msg").getByText("You said: Other").waitFor();
	await expect.poll(() => page.locator(".msg").count()).toBe(2);
	await page.getByRole("button", { name: "New chat" }).first().click();
	await page.locator(".start").waitFor();
	expect(await page.locator("#composer").count()).toBe(1);
	await openConversation(page, other.conversation_id);
});

test("a message that cannot be displayed is plain text; the rest of the page works", async () => {
	const { conversation_id } = await client.send("Fine");
	await client.send("Broken", conversation_id);
	// Another version of the server may send such a value.
	await page.route("**/messages?*", async (route) => {
		const response = await route.fetch();
		const body = await response.json();
		for (const message of body.messages)
			if (message.content.includes("Broken")) message.created_at = "not a time";
		await route.fulfill({ response, json: body });
	});
	await openConversation(page, conversation_id);
	await page.locator(".note", { hasText: "could not be displayed" }).first().waitFor();
	await expect
		.poll(() => page.locator(".msg .plain").allInnerTexts())
		.toEqual(["Broken", "You said: Broken"]);
	await page.locator(".msg.bot").getByText("You said: Fine").waitFor();
	expect(await page.locator("#composer").count()).toBe(1);
	await page.unrouteAll();
	await page.reload();
	await page.locator(".msg.bot").getByText("You said: Broken").waitFor();
	expect(await page.locator(".note").count()).toBe(0);
});

test("formulas keep their backslashes, and line breaks are kept", async () => {
	const formulas = [
		"\\(a_1 \\\\ b_1\\)",
		"\\[\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}\\]",
		"$x_i * y_i * z$",
		"$$\n\\frac{1}{2}\n$$",
	];
	agent.on("Formulas", { text: `Step 1\nStep 2\n\n${formulas.join("\n\nand\n\n")}` });
	await openNewConversation();
	await sendMessage(page, "Formulas");
	await answerEnded(page);
	await expect.poll(() => page.locator(".math").allInnerTexts()).toEqual(formulas);
	expect(await page.locator(".md p").first().innerText()).toBe("Step 1\nStep 2");
});

test("reasoning is collapsed, also while it arrives", async () => {
	const [thinks, rest] = [new Gate(), new Gate()];
	agent.on("Think", {
		text: ["<think>\nSecret ", "thought.\n", "</think>\n\nYes."],
		before: thinks,
		beforeLast: rest,
	});
	await openNewConversation();
	await sendMessage(page, "Think");
	await thinks.reached;
	thinks.open();
	await page.locator(".reasoning summary", { hasText: "Thinking" }).waitFor();
	expect(await page.locator(".msg.bot").textContent()).not.toMatch(/Secret|<think>/);
	rest.open();
	await answerEnded(page);
	await page.locator(".md").getByText("Yes.").waitFor();
	expect(await page.locator(".msg.bot").textContent()).not.toMatch(/Secret|think>/);
	await page.locator(".reasoning summary").click();
	await page.locator(".reasoning").getByText("Secret thought.").waitFor();
});

test("each block has its own direction", async () => {
	agent.on("Mixed", {
		text: "OK!\n\nمرحبا بكم في المدينة.\n\n- واحد\n- two\n\n> اقتباس\n\n| اسم | عدد |\n|---|---|\n| تفاح | ٣ |",
	});
	await openNewConversation();
	await sendMessage(page, "Mixed");
	await answerEnded(page);
	const of = (selector: string) =>
		page
			.locator(`.msg.bot ${selector}`)
			.evaluateAll((all) => all.map((element) => getComputedStyle(element).direction));
	await expect.poll(() => of(".md > p")).toEqual(["ltr", "rtl"]);
	expect(await of("li")).toEqual(["rtl", "ltr"]);
	expect(await of("blockquote")).toEqual(["rtl"]);
	expect(await of("table")).toEqual(["rtl"]);
	await sendMessage(page, "hello\nمرحبا");
	const text = page.locator(".message-text").nth(1);
	await text.waitFor();
	// The second line is at the right edge.
	const edges = await text.evaluate((element) => {
		const [box, range] = [element.getBoundingClientRect(), document.createRange()];
		const text = element.firstChild as Text;
		range.setStart(text, 6);
		range.setEnd(text, text.length);
		return [
			box.right - range.getBoundingClientRect().right,
			box.left - range.getBoundingClientRect().left,
		];
	});
	expect(Math.abs(edges[0]!)).toBeLessThan(2);
});

test("no ligature replaces an arrow or a comparison", async () => {
	const text = "a -> b => c != d, `a -> b != c`, <b>-></b>\n\n```js\na => b !== c\n```";
	agent.on(
		"Arrows -> !=",
		{ text, calls: [{ name: "echo", args: { test: "a -> b != c", answer: '"a => b"' } }] },
		{ text: "So." },
	);
	await openNewConversation();
	await sendMessage(page, "Arrows -> !=");
	await answerEnded(page);
	await page.locator(".tool-head").click();
	await page.locator(".value code").first().waitFor();
	const settings = await page
		.locator(
			".message-text, .md p, .md p code, .code code, .args code, .args dt, .value code, .tool-sum, #composer",
		)
		.evaluateAll((all) =>
			all.map((element) => [
				element.className || element.localName,
				getComputedStyle(element).fontVariantLigatures,
			]),
		);
	expect(settings.length).toBeGreaterThan(8);
	expect(
		settings.filter(([, ligatures]) => !/^(none|no-contextual)$/.test(ligatures ?? "")),
	).toEqual([]);
});

test("cells of a table wrap, and an edge that hides cells is marked", async () => {
	const sentence =
		"This is a sentence of some length, as people write them into the cells of their tables.";
	agent.on("Table", {
		text: `| a | b | c |\n|---|---|---|\n| ${sentence} | ${sentence} | 1 |\n\n| ${"column | ".repeat(16)}\n|${"---|".repeat(16)}\n| ${"cell cell | ".repeat(16)}`,
	});
	await openNewConversation();
	await sendMessage(page, "Table");
	await answerEnded(page);
	const hidden = (at: number) =>
		page
			.locator(".table")
			.nth(at)
			.evaluate((table) => table.scrollWidth - table.clientWidth);
	expect(await hidden(0)).toBe(0);
	expect(await hidden(1)).toBeGreaterThan(0);
	await page.locator(".table[data-cut=end]").waitFor();
	expect(
		await page
			.locator(".table")
			.nth(1)
			.evaluate((table) => getComputedStyle(table).maskImage),
	).toContain("gradient");
	await page
		.locator(".table")
		.nth(1)
		.evaluate((table) => {
			table.scrollLeft = table.scrollWidth;
		});
	await page.locator(".table[data-cut=start]").waitFor();
	await expect.poll(() => page.locator(".table").first().getAttribute("data-cut")).toBe("");
	const widths = await page
		.locator(".table")
		.nth(1)
		.locator("td")
		.evaluateAll((cells) => cells.map((cell) => cell.clientWidth));
	expect(Math.min(...widths)).toBeGreaterThan(50);
});

test("a print has the whole conversation and nothing else", async () => {
	let conversation: string | undefined;
	for (let at = 0; at < 25; at++)
		conversation = (await client.send(`Message ${at} of the print`, conversation)).conversation_id;
	await openConversation(page, conversation!);
	await page.getByText("You said: Message 24").waitFor();
	expect(await page.locator(".msg").count()).toBeLessThan(50);
	const text = Buffer.from(await page.pdf());
	expect(text.length).toBeGreaterThan(1_000);
	await expect
		.poll(() => page.locator(".bubble").allTextContents())
		.toEqual(Array.from({ length: 25 }, (_, at) => `Message ${at} of the print`));
	await page.emulateMedia({ media: "print" });
	for (const hidden of [".side", ".dock", ".actions", ".bar button"]) {
		expect(await page.locator(hidden).first().isVisible(), hidden).toBe(false);
	}
	const [paper, content] = await page.evaluate(() => [
		document.documentElement.scrollHeight,
		document.querySelector(".column")!.scrollHeight,
	]);
	expect(paper).toBeGreaterThanOrEqual(content!);
	expect(await page.locator(".scroll").evaluate((box) => getComputedStyle(box).overflowY)).toBe(
		"visible",
	);
});

test("hidden tabs hold no connection and resume their stream when they are visible", async () => {
	const context = page.context();
	await context.addInitScript(() => {
		let state: DocumentVisibilityState = "visible";
		Object.defineProperty(document, "visibilityState", { get: () => state });
		Object.assign(window, {
			show: (yes: boolean) => {
				state = yes ? "visible" : "hidden";
				document.dispatchEvent(new Event("visibilitychange"));
			},
		});
	});
	const show = (tab: typeof page, yes: boolean) =>
		tab.evaluate((seen) => (window as unknown as { show: (yes: boolean) => void }).show(seen), yes);
	const gates: Gate[] = [];
	const tabs: (typeof page)[] = [];
	for (let at = 0; at < 6; at++) {
		const gate = new Gate();
		gates.push(gate);
		agent.on(`Run ${at}`, { text: [`Half of ${at},`, " whole."], beforeLast: gate });
		const tab = await context.newPage();
		tabs.push(tab);
		await tab.goto("/");
		await sendMessage(tab, `Run ${at}`);
		await tab.locator(".md.live").getByText(`Half of ${at},`).waitFor();
		await show(tab, false);
	}
	await page.goto("/");
	await sendMessage(page, "Seventh");
	await answerEnded(page);
	const events: string[] = [];
	tabs[0]!.on("request", (request) => {
		if (request.url().endsWith("/events")) events.push(request.headers()["last-event-id"] ?? "");
	});
	expect(await tabs[0]!.locator(".link").count()).toBe(0);
	await show(tabs[0]!, true);
	await expect.poll(() => events.length).toBe(1);
	expect(events[0]).not.toBe("");
	for (const gate of gates) gate.open();
	for (const [at, tab] of tabs.entries()) {
		await show(tab, true);
		await answerEnded(tab);
		await expect.poll(() => tab.locator(".msg.bot .md").innerText()).toBe(`Half of ${at}, whole.`);
	}
});

test("more visible tabs than a browser has connections show their answers", async () => {
	const gates: Gate[] = [];
	const tabs: (typeof page)[] = [];
	for (let at = 0; at < 8; at++) {
		const gate = new Gate();
		gates.push(gate);
		agent.on(`Seen ${at}`, { text: [`Half of ${at},`, " whole."], beforeLast: gate });
		const tab = await page.context().newPage();
		tabs.push(tab);
		await tab.goto("/");
		await sendMessage(tab, `Seen ${at}`);
		await tab.locator(".md.live").getByText(`Half of ${at},`).waitFor();
	}
	// An action in any tab reaches the server.
	await tabs[0]!.getByRole("button", { name: "Stop the answer" }).click();
	await answerEnded(tabs[0]!, "cancelled");
	for (const gate of gates) gate.open();
	for (const [at, tab] of tabs.entries()) {
		if (at === 0) continue;
		await answerEnded(tab);
		await expect.poll(() => tab.locator(".msg.bot .md").innerText()).toBe(`Half of ${at}, whole.`);
		expect(await tab.locator(".link").count()).toBe(0);
	}
});
