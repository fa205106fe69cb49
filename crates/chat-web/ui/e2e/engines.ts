import { afterAll, beforeAll, expect, test } from "vitest";
import { Agent } from "./support/agent";
import { chromium, type Engine, firefox, webkit } from "./support/engines";
import { Client, TestServer, tokenOf } from "./support/server";

/*
 * Scrolling depends on the browser engine: it is tested in Chromium, Firefox and WebKit. A missing
 * browser fails the test and names the package to install.
 */
const TURNS = 60;
const STEP = 300;

let agent: Agent;
let server: TestServer;
let conversation = "";

/** Answers of very different heights. */
const answer = (at: number) =>
	[
		`Answer ${at}.`,
		"A paragraph of some words. ".repeat((at * 7) % 40),
		at % 3 === 0 ? `\`\`\`js\n${"const line = 1;\n".repeat((at * 5) % 30)}\`\`\`` : "",
		at % 4 === 0
			? `| a | b |\n|---|---|\n${"| cell | another cell |\n".repeat((at * 3) % 20)}`
			: "",
		at % 5 === 0 ? "- an item\n".repeat((at * 11) % 25) : "",
	].join("\n\n");

beforeAll(async () => {
	agent = await Agent.start();
	server = await TestServer.start(agent);
	const client = new Client(server, "ann");
	for (let at = 0; at < TURNS; at++) {
		agent.on(`Question ${at}`, { text: [answer(at)] });
		({ conversation_id: conversation } = await client.send(
			`Question ${at}`,
			conversation || undefined,
		));
	}
}, 300_000);
afterAll(async () => {
	await server?.remove();
	agent?.stop();
});

/** Waits until an expression is true. */
async function until(engine: Engine, expression: string) {
	const limit = Date.now() + 60_000;
	while (!(await engine.evaluate<boolean>(`Boolean(${expression})`))) {
		if (Date.now() > limit) throw new Error(`waited for ${expression}`);
	}
}

/** Remembers the block in the middle of the page, and returns its position. */
const MARK = `(() => {
  const at = document.elementFromPoint(700, 400);
  window.marked = at.closest('p, li, tr, pre, figure, .bubble, .meta, .actions, .msg') ?? at;
  window.scrolls = 0;
  document.querySelector('.scroll').addEventListener('scroll', () => window.scrolls++, { once: true });
  return window.marked.getBoundingClientRect().top;
})()`;

/**
 * Resolves to the position of the remembered block when it has stopped moving, and the scroll
 * position.
 */
const PLACE = `new Promise((resolve) => {
  const box = document.querySelector('.scroll');
  const place = () => window.marked.getBoundingClientRect().top;
  let [last, same, frames] = [place(), 0, 0];
  const look = () => {
    const now = place();
    const loading = document.querySelector('.earlier button')?.disabled;
    same = now === last && !loading && (window.scrolls > 0 || frames > 120) ? same + 1 : 0;
    last = now;
    frames++;
    if (same > 5) resolve({ top: now, left: box.scrollTop, more: document.querySelector('.earlier') !== null });
    else requestAnimationFrame(look);
  };
  look();
})`;

test.each([
	["Chromium", chromium],
	["Firefox", firefox],
	["WebKit", webkit],
] as const)(
	"%s: scrolling up through a conversation moves the text exactly by the wheel",
	{ timeout: 300_000 },
	async (_, start) => {
		const engine = await start();
		try {
			await engine.open(server.url);
			await engine.evaluate(
				`localStorage.setItem('chat.token', ${JSON.stringify(tokenOf("ann"))})`,
			);
			await engine.open(`${server.url}/c/${conversation}`);
			await until(engine, `document.querySelector('.turn.last .msg.bot')`);
			await until(
				engine,
				`document.fonts.status === 'loaded' && document.querySelector('.earlier')`,
			);
			await until(
				engine,
				`(() => { const box = document.querySelector('.scroll'); return box.scrollHeight - box.scrollTop - box.clientHeight < 2; })()`,
			);
			const moved: number[] = [];
			for (let step = 0; step < 400; step++) {
				const before = await engine.evaluate<number>(MARK);
				await engine.wheel(-STEP);
				const { top, left, more } = await engine.evaluate<{
					top: number;
					left: number;
					more: boolean;
				}>(PLACE);
				if (!more && left <= 0) break;
				moved.push(Math.round(top - before));
			}
			expect(moved.length).toBeGreaterThan(30);
			expect(moved.filter((by) => Math.abs(by - STEP) > 1)).toEqual([]);
			await until(
				engine,
				`!document.querySelector('.earlier') && document.querySelector('.bubble').textContent === 'Question 0'`,
			);
		} finally {
			await engine.close();
		}
	},
);
