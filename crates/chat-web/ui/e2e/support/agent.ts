import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One step of the agent: a text and then perhaps tool calls, or a failure. */
export interface Step {
	/** The text, in chunks. A single text is split into chunks. */
	text?: string | string[];
	calls?: { name: string; args: unknown }[];
	/** The number of output tokens; by default one per chunk. */
	tokens?: number;
	/** Gates before the first chunk and before the last one. */
	before?: Gate;
	beforeLast?: Gate;
	/** The time between two chunks, in milliseconds. */
	pause?: number;
	/** Fails with this HTTP status instead. */
	status?: number;
	/** The finish reason of an incomplete answer. */
	finishReason?: "length" | "content_filter";
	/** Rejects conversations with more user messages than this. */
	maxUserMessages?: number;
	/** Ends the stream with an error of this code after the text. */
	errorCode?: string;
}

/** Holds callers of `pass` until it is opened. */
export class Gate {
	#open!: () => void;
	#arrive!: () => void;
	readonly opened = new Promise<void>((resolve) => {
		this.#open = resolve;
	});
	/** Resolves when the first caller waits. */
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

const CHUNK_LENGTH = 12;
const chunksOf = (text: string | string[] | undefined): string[] =>
	typeof text === "string"
		? (text.match(new RegExp(`[\\s\\S]{1,${CHUNK_LENGTH}}`, "g")) ?? [])
		: (text ?? []);

/** An OpenAI-compatible server on a free port with scripted answers. */
export class Agent {
	#server: Server;
	#answers = new Map<string, Step[]>();
	#gates = new Map<string, Gate>();
	/** The results of tools, by name; the tools request them here. */
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

	/** Sets the answer to a message. */
	on(message: string, ...steps: Step[]) {
		this.#answers.set(message, steps);
	}

	/** The gate of the tool `wait` with this argument. */
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
		const question = messages.findLastIndex((message) => message.role === "user");
		const steps = this.#answers.get(messages[question]?.content ?? "");
		const done = messages.slice(question).filter((message) => message.role === "assistant").length;
		const step = steps ? steps[done] : { text: `You said: ${messages[question]?.content}` };
		if (
			step?.maxUserMessages &&
			messages.filter((message) => message.role === "user").length > step.maxUserMessages
		) {
			response.writeHead(400, { "content-type": "application/json" });
			response.end(
				JSON.stringify({
					error: { code: "context_length_exceeded", message: "scripted failure" },
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
			response.end(JSON.stringify({ error: { message: "scripted failure" } }));
			return;
		}
		response.writeHead(200, { "content-type": "text/event-stream" });
		const write = (choice: object, more: object = {}) =>
			response.write(
				`data: ${JSON.stringify({ id: "x", object: "chat.completion.chunk", model: "stub", choices: [choice], ...more })}\n\n`,
			);
		const texts = chunksOf(step.text);
		const startedAt = performance.now();
		for (const [at, content] of texts.entries()) {
			// Pausing until a fixed time keeps a late chunk from delaying the next ones.
			const wait = startedAt + at * (step.pause ?? 0) - performance.now();
			if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
			if (at === texts.length - 1) await step.beforeLast?.pass();
			if (response.destroyed) return;
			write({ index: 0, delta: { role: "assistant", content }, finish_reason: null });
		}
		if (step.errorCode) {
			response.end(
				`data: ${JSON.stringify({ error: { code: step.errorCode, message: "scripted failure" } })}\n\n`,
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
		const usage = { prompt_tokens: 900, completion_tokens: step.tokens ?? texts.length };
		write(
			{
				index: 0,
				delta: {},
				finish_reason: step.finishReason ?? (calls.length > 0 ? "tool_calls" : "stop"),
			},
			{ usage },
		);
		response.end("data: [DONE]\n\n");
	}
}
