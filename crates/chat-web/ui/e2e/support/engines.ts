import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { launch } from "./browser";

/** A browser with one page. */
export interface Engine {
	open(url: string): Promise<void>;
	/** Evaluates an expression whose value, or promised value, is JSON. */
	evaluate<T>(expression: string): Promise<T>;
	/** Turns the wheel over the middle of the page, in pixels. */
	wheel(by: number): Promise<void>;
	close(): Promise<void>;
}

const [X, Y] = [700, 400];
const SIZE = { width: 1_280, height: 832 };

export async function chromium(): Promise<Engine> {
	const browser = await launch();
	const page = await browser.newPage({ viewport: SIZE });
	return {
		open: async (url) => void (await page.goto(url)),
		evaluate: (expression) => page.evaluate(expression) as Promise<never>,
		wheel: async (by) => {
			await page.mouse.move(X, Y);
			await page.mouse.wheel(0, by);
		},
		close: () => browser.close(),
	};
}

/** Returns the path of an installed program; the error names the package to install. */
function findProgram(name: string, places: string[], how: string): string {
	const place = places.find((one) => existsSync(one));
	if (!place)
		throw new Error(
			`there is no ${name} for the tests in all engines; on Debian: apt-get install ${how}`,
		);
	return place;
}

/** Terminates a child process and waits for its end. */
async function terminate(child: ChildProcess) {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const gone = new Promise((resolve) => child.once("exit", resolve));
	child.kill("SIGTERM");
	await gone;
}

/** Waits for a line of a process's output; resolves to the first group of the pattern. */
function waitForLine(child: ChildProcess, pattern: RegExp, what: string): Promise<string> {
	return new Promise((resolve, reject) => {
		let output = "";
		const receive = (piece: Buffer) => {
			output += piece.toString();
			const match = pattern.exec(output);
			if (match) resolve(match[1] ?? "");
		};
		child.stdout?.on("data", receive);
		child.stderr?.on("data", receive);
		child.once("exit", (code) =>
			reject(new Error(`${what}: the process ended with ${code}\n${output}`)),
		);
		child.once("error", reject);
	});
}

/** Firefox by WebDriver BiDi, over a WebSocket. */
export async function firefox(): Promise<Engine> {
	const program = findProgram(
		"Firefox",
		["/usr/bin/firefox-esr", "/usr/bin/firefox", process.env.FIREFOX ?? ""],
		"firefox-esr",
	);
	const profile = mkdtempSync(join(tmpdir(), "chat-firefox-"));
	writeFileSync(
		join(profile, "user.js"),
		[
			"general.smoothScroll",
			"datareporting.policy.dataSubmissionEnabled",
			"app.update.auto",
			"browser.shell.checkDefaultBrowser",
		]
			.map((name) => `user_pref('${name}', false);\n`)
			.join(""),
	);
	const arguments_ = [
		"--headless",
		"--no-remote",
		"--profile",
		profile,
		"--remote-debugging-port",
		"0",
	];
	const child = spawn(program, arguments_, {
		env: {
			...process.env,
			HOME: profile,
			MOZ_HEADLESS_WIDTH: String(SIZE.width),
			MOZ_HEADLESS_HEIGHT: String(SIZE.height + 100),
		},
		stdio: ["ignore", "pipe", "pipe"],
	});
	const url = await waitForLine(child, /WebDriver BiDi listening on (ws:\/\/\S+)/, "Firefox");
	const socket = new WebSocket(`${url}/session`);
	await new Promise((resolve, reject) => {
		socket.once("open", resolve);
		socket.once("error", reject);
	});
	const waiting = new Map<number, (answer: { result?: unknown; message?: string }) => void>();
	socket.on("message", (data) => {
		const answer = JSON.parse(String(data)) as { id?: number; result?: unknown; message?: string };
		if (answer.id !== undefined) waiting.get(answer.id)?.(answer);
	});
	let sent = 0;
	const command = async <T>(method: string, params: object): Promise<T> => {
		const id = ++sent;
		const answer = await new Promise<{ result?: unknown; message?: string }>((resolve) => {
			waiting.set(id, resolve);
			socket.send(JSON.stringify({ id, method, params }));
		});
		waiting.delete(id);
		if (answer.result === undefined) throw new Error(`${method}: ${answer.message}`);
		return answer.result as T;
	};
	await command("session.new", { capabilities: {} });
	const { contexts } = await command<{ contexts: { context: string }[] }>(
		"browsingContext.getTree",
		{},
	);
	const context = contexts[0]?.context ?? "";
	return {
		open: async (address) =>
			void (await command("browsingContext.navigate", { context, url: address, wait: "complete" })),
		evaluate: async (expression) => {
			const wrapped = `Promise.resolve(${expression}).then((value) => JSON.stringify(value ?? null))`;
			const answer = await command<{
				type: string;
				result?: { value: string };
				exceptionDetails?: { text: string };
			}>("script.evaluate", {
				expression: wrapped,
				target: { context },
				awaitPromise: true,
			});
			if (!answer.result) throw new Error(answer.exceptionDetails?.text);
			return JSON.parse(answer.result.value);
		},
		wheel: async (by) => {
			const actions = [{ type: "scroll", x: X, y: Y, deltaX: 0, deltaY: by }];
			await command("input.performActions", {
				context,
				actions: [{ type: "wheel", id: "wheel", actions }],
			});
		},
		close: async () => {
			socket.close();
			await terminate(child);
			rmSync(profile, { recursive: true, force: true });
		},
	};
}

async function freePort(): Promise<number> {
	const listener = createServer();
	await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
	const { port } = listener.address() as { port: number };
	await new Promise((resolve) => listener.close(resolve));
	return port;
}

/** The paths of WebKitGTK's MiniBrowser on Debian. */
function miniBrowsers(): string[] {
	const architectures = readdirSync("/usr/lib").filter((name) => name.includes("-linux-"));
	return architectures.flatMap((name) =>
		["webkitgtk-6.0", "webkit2gtk-4.1", "webkit2gtk-4.0"].map(
			(version) => `/usr/lib/${name}/${version}/MiniBrowser`,
		),
	);
}

/** WebKitGTK by its WebDriver. Its wheel works only once, so a script scrolls the page instead. */
export async function webkit(): Promise<Engine> {
	const how = "webkit2gtk-driver xvfb";
	const driver = findProgram("WebKitWebDriver", ["/usr/bin/WebKitWebDriver"], how);
	const binary = findProgram("MiniBrowser", miniBrowsers(), how);
	const screen = spawn(
		findProgram("Xvfb", ["/usr/bin/Xvfb"], how),
		["-displayfd", "1", "-screen", "0", "1400x1000x24", "-nolisten", "tcp"],
		{
			stdio: ["ignore", "pipe", "ignore"],
		},
	);
	const display = `:${await waitForLine(screen, /(\d+)\n/, "Xvfb")}`;
	const port = await freePort();
	const child = spawn(driver, ["--host=127.0.0.1", `--port=${port}`], {
		env: {
			...process.env,
			DISPLAY: display,
			GDK_BACKEND: "x11",
			LIBGL_ALWAYS_SOFTWARE: "1",
			NO_AT_BRIDGE: "1",
		},
		stdio: "ignore",
	});
	const command = async <T>(method: string, path: string, body?: object): Promise<T> => {
		const response = await fetch(`http://127.0.0.1:${port}${path}`, {
			method,
			body: body ? JSON.stringify(body) : null,
		});
		const { value } = (await response.json()) as {
			value: T & { error?: string; message?: string };
		};
		if (!response.ok) throw new Error(`${path}: ${value.error} ${value.message}`);
		return value;
	};
	const limit = Date.now() + 20_000;
	for (let ready = false; !ready; ) {
		ready = await command<{ ready: boolean }>("GET", "/status").then(
			(status) => status.ready,
			() => false,
		);
		if (!ready && Date.now() > limit)
			throw new Error("WebKitWebDriver was not ready within 20 seconds");
	}
	const { sessionId } = await command<{ sessionId: string }>("POST", "/session", {
		capabilities: {
			alwaysMatch: { "webkitgtk:browserOptions": { binary, args: ["--automation"] } },
		},
	});
	const at = `/session/${sessionId}`;
	await command("POST", `${at}/window/rect`, SIZE).catch(() => {});
	const evaluate = async <T>(expression: string): Promise<T> => {
		const script = `const end = arguments[arguments.length - 1]; Promise.resolve(${expression}).then((value) => end(JSON.stringify(value ?? null)), (error) => end('"' + error + '"'));`;
		return JSON.parse(
			await command<string>("POST", `${at}/execute/async`, { script, args: [] }),
		) as T;
	};
	return {
		open: async (url) => void (await command("POST", `${at}/url`, { url })),
		evaluate,
		wheel: async (by) =>
			void (await evaluate(`(document.querySelector('.scroll').scrollTop += ${by})`)),
		close: async () => {
			await command("DELETE", at).catch(() => {});
			await terminate(child);
			await terminate(screen);
		},
	};
}
