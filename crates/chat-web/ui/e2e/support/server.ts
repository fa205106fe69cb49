import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Agent } from "./agent";

export const SECRET = "0123456789abcdef0123456789abcdef";

/** The program under test; `cargo xtask ui test` sets the variable. */
const PROGRAM =
	process.env.CHAT_SERVER ?? join(import.meta.dirname, "../../../../../target/debug/chat-server");
const TOOLS = join(import.meta.dirname, "tools.mjs");

/** Returns a free port, for servers that restart at the same address. */
async function freePort(): Promise<number> {
	const listener = createServer();
	await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
	const address = listener.address();
	await new Promise((resolve) => listener.close(resolve));
	if (address === null || typeof address === "string") throw new Error("no port");
	return address.port;
}

const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Signs a token like an identity provider. */
export function tokenOf(user: string, seconds = 3_600, more: object = {}): string {
	const body = `${base64({ alg: "HS256", typ: "JWT" })}.${base64({ sub: user, exp: Math.floor(Date.now() / 1_000) + seconds, ...more })}`;
	return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
}

/** A server process that can be stopped and restarted with the same database and address. */
export class TestServer {
	readonly folder = mkdtempSync(join(tmpdir(), "chat-browser-"));
	#child: ChildProcess | undefined;
	/** The output of the server when it started. */
	startOutput = "";

	private constructor(
		readonly port: number,
		private readonly variables: Record<string, string>,
	) {}

	get url() {
		return `http://127.0.0.1:${this.port}`;
	}

	get database() {
		return join(this.folder, "chat.db");
	}

	/** Starts a server with an agent and a known secret. `variables` take precedence. */
	static async start(
		agent: Agent | null,
		variables: Record<string, string> = {},
	): Promise<TestServer> {
		const port = await freePort();
		const tools = agent && [{ name: "tests", command: process.execPath, args: [TOOLS, agent.url] }];
		const server = new TestServer(port, {
			CHAT_LISTEN: `127.0.0.1:${port}`,
			CHAT_LOG_FILTER: "warn",
			...(agent
				? { CHAT_AGENT_URL: `${agent.url}/v1`, CHAT_AGENT_MODEL: "stub", CHAT_JWT_SECRET: SECRET }
				: {}),
			...(tools ? { CHAT_MCP_SERVERS: JSON.stringify(tools) } : {}),
			...variables,
		});
		await server.run();
		return server;
	}

	/** Starts the process and waits until it listens. */
	async run() {
		const child = spawn(PROGRAM, {
			cwd: this.folder,
			env: { PATH: process.env.PATH ?? "", ...this.variables },
			stdio: ["ignore", "pipe", "inherit"],
		});
		this.#child = child;
		this.startOutput = "";
		await new Promise<void>((resolve, reject) => {
			child.once("exit", (code) =>
				reject(new Error(`the server did not start: exit code ${code}`)),
			);
			createInterface({ input: child.stdout }).on("line", (line) => {
				this.startOutput += `${line}\n`;
				if (line.includes(" listens on ") && this.variables.CHAT_JWT_SECRET) resolve();
				if (line.includes("API documentation")) resolve();
			});
		});
		child.removeAllListeners("exit");
	}

	async #end(signal: NodeJS.Signals) {
		const child = this.#child;
		if (!child || child.exitCode !== null || child.signalCode !== null) return;
		const gone = new Promise((resolve) => child.once("exit", resolve));
		child.kill(signal);
		await gone;
	}

	/** Ends the process like a power failure. */
	kill = () => this.#end("SIGKILL");
	/** Ends the process like an operator. */
	stop = () => this.#end("SIGTERM");

	async remove() {
		await this.kill();
		rmSync(this.folder, { recursive: true, force: true });
	}
}

/** A client of the API for a user. */
export class Client {
	constructor(
		readonly server: TestServer,
		readonly user: string,
	) {}

	async call(
		method: string,
		path: string,
		body?: unknown,
		headers: Record<string, string> = {},
	): Promise<Response> {
		return fetch(`${this.server.url}/api/${encodeURIComponent(this.user)}${path}`, {
			method,
			headers: {
				authorization: `Bearer ${tokenOf(this.user)}`,
				"content-type": "application/json",
				...headers,
			},
			body: body === undefined ? null : JSON.stringify(body),
		});
	}

	/** Sends a message and waits for the end of its turn. */
	async send(
		message: string,
		conversation?: string,
	): Promise<{ conversation_id: string; turn_id: string }> {
		const response = await this.call("POST", "/chat?messages=turn", {
			message,
			conversation_id: conversation ?? null,
		});
		return (await response.json()) as { conversation_id: string; turn_id: string };
	}

	async get<T>(path: string): Promise<T> {
		const response = await this.call("GET", path);
		if (!response.ok) throw new Error(`${path}: ${response.status}`);
		return (await response.json()) as T;
	}
}
