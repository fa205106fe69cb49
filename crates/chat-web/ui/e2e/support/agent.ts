import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What the agent does in one step: it says something and then perhaps calls tools, or it fails. */
export interface Step {
	/** Said piece by piece, as it stands here. */
	text?: string | string[];
	calls?: { name: string; args: unknown }[];
	/** How many tokens that was; a piece is one unless it is said. */
	tokens?: number;
	/** Waits for this before it says anything, and before the last piece. */
	before?: Gate;
	beforeLast?: Gate;
	/** Between two pieces, in milliseconds. */
	pause?: number;
	/** Fails with this status instead. */
	status?: number;
	/** Why it stops, where that is not because it has said everything. */
	finish?: "length" | "content_filter";
	/** Refuses conversations with more messages of the user's than this. */
	reads?: number;
	/** Breaks off with an error of this code after what it said. */
	breaks?: string;
}

/** Holds whoever comes until it is opened. */
export class Gate {
	#open!: () => void;
	#arrive!: () => void;
	readonly opened = new Promise<void>((resolve) => {
		this.#open = resolve;
	});
	/** Somebody waits. */
	readonly reached = new Promise<void>((resolve) => {
		this.#arrive = resolve;
	});

	open() {
		this.#open();
	}

	pass(): Promise<void> {
		this.#arrive();
		return this.opened;
	}
}

interface ChatMessage {
	role: string;
	content?: string | null;
}

const PIECE = 12;
const pieces = (text: string | string[] | undefined): string[] =>
	typeof text === "string"
		? (text.match(new RegExp(`[\\s\\S]{1,${PIECE}}`, "g")) ?? [])
		: (text ?? []);

/** An agent that answers each message as a test says: an OpenAI-compatible server on a free port. */
export class Agent {
	#server: Server;
	#answers = new Map<string, Step[]>();
	#gates = new Map<string, Gate>();
	/** What the tools say that ask here, by their names. */
	readonly results = new Map<string, string>();
	url = "";

	private constructor() {
		this.#server = createServer((request, response) => void this.#serve(request, response));
	}

	static async start(): Promise<Agent> {
		const agent = new Agent();
		await new Promise<void>((resolve) => agent.#server.listen(0, "127.0.0.1", resolve));
		agent.url = `http://127.0.0.1:${(agent.#server.address() as AddressInfo).port}`;
		return agent;
	}

	/** From now on, this is the answer to this message. */
	on(message: string, ...steps: Step[]) {
		this.#answers.set(message, steps);
	}

	/** Where the tool `wait` waits that is given this name. */
	gate(name: string): Gate {
		const gate = this.#gates.get(name) ?? new Gate();
		this.#gates.set(name, gate);
		return gate;
	}

	stop() {
		this.#server.closeAllConnections();
		this.#server.close();
	}

	async #serve(request: IncomingMessage, response: ServerResponse) {
		const waits = /^\/gate\/(.+)$/.exec(request.url ?? "");
		if (waits?.[1]) {
			await this.gate(decodeURIComponent(waits[1])).pass();
			response.end();
			return;
		}
		const tool = /^\/result\/(.+)$/.exec(request.url ?? "");
		if (tool?.[1]) {
			response.end(this.results.get(tool[1]) ?? "");
			return;
		}
		const chunks: Buffer[] = [];
		for await (const chunk of request) chunks.push(chunk as Buffer);
		const { messages } = JSON.parse(Buffer.concat(chunks).toString()) as {
			messages: ChatMessage[];
		};
		const asked = messages.findLastIndex((message) => message.role === "user");
		const steps = this.#answers.get(messages[asked]?.content ?? "");
		const done = messages.slice(asked).filter((message) => message.role === "assistant").length;
		const step = steps ? steps[done] : { text: `You said: ${messages[asked]?.content}` };
		if (step?.reads && messages.filter((message) => message.role === "user").length > step.reads) {
			response.writeHead(400, { "content-type": "application/json" });
			response.end(
				JSON.stringify({
					error: { code: "context_length_exceeded", message: "as the test wants it" },
				}),
			);
			return;
		}
		await this.#answer(step ?? { text: "Done." }, response);
	}

	async #answer(step: Step, response: ServerResponse) {
		await step.before?.pass();
		if (step.status) {
			response.writeHead(step.status, { "content-type": "application/json" });
			response.end(JSON.stringify({ error: { message: "as the test wants it" } }));
			return;
		}
		response.writeHead(200, { "content-type": "text/event-stream" });
		const write = (choice: object, more: object = {}) =>
			response.write(
				`data: ${JSON.stringify({ id: "x", object: "chat.completion.chunk", model: "stub", choices: [choice], ...more })}\n\n`,
			);
		const said = pieces(step.text);
		const begun = performance.now();
		for (const [at, content] of said.entries()) {
			// By the clock: a piece that comes late does not make all others later.
			const early = begun + at * (step.pause ?? 0) - performance.now();
			if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
			if (at === said.length - 1) await step.beforeLast?.pass();
			if (response.destroyed) return;
			write({ index: 0, delta: { role: "assistant", content }, finish_reason: null });
		}
		if (step.breaks) {
			response.end(
				`data: ${JSON.stringify({ error: { code: step.breaks, message: "as the test wants it" } })}\n\n`,
			);
			return;
		}
		const calls = (step.calls ?? []).map((call, index) => ({
			index,
			id: `call_${index}`,
			type: "function",
			function: {
				name: call.name,
				arguments: typeof call.args === "string" ? call.args : JSON.stringify(call.args),
			},
		}));
		if (calls.length > 0) write({ index: 0, delta: { tool_calls: calls }, finish_reason: null });
		const usage = { prompt_tokens: 900, completion_tokens: step.tokens ?? said.length };
		write(
			{
				index: 0,
				delta: {},
				finish_reason: step.finish ?? (calls.length > 0 ? "tool_calls" : "stop"),
			},
			{ usage },
		);
		response.end("data: [DONE]\n\n");
	}
}
