import { authorization, tokenRefused, userId } from "../session/session";
import { reached } from "../state/link";
import { readJson } from "./json";
import type { Conversation, ConversationList, MessageList, Problem, TurnDetail } from "./types";

/** A request that was refused, or that did not reach the server: then its status is 0. */
export class Refused extends Error {
	constructor(readonly problem: Problem) {
		super(problem.detail);
	}

	/** Whether the same request may be answered later. */
	get passing(): boolean {
		return this.problem.status === 0 || this.problem.status >= 500 || this.problem.status === 429;
	}
}

const AWAY: Problem = {
	code: "unreachable",
	title: "No answer",
	detail: "The server cannot be reached.",
	status: 0,
};

/** One request below the user's path. Signs the user out if the token is refused. */
export async function request(
	method: string,
	path: string,
	init: RequestInit = {},
): Promise<Response> {
	const sent = authorization();
	const headers = {
		accept: "application/json",
		...(init.headers as Record<string, string>),
		...sent,
	};
	let response: Response;
	try {
		response = await fetch(`/api/${encodeURIComponent(userId())}${path}`, {
			...init,
			method,
			headers,
		});
	} catch (error) {
		if (init.signal?.aborted) throw error;
		reached(false);
		throw new Refused(AWAY);
	}
	reached(true);
	if (response.ok) return response;
	const problem = await problemOf(response);
	if (response.status === 401) tokenRefused(problem, sent.authorization);
	throw new Refused(problem);
}

async function problemOf(response: Response): Promise<Problem> {
	const detail = `The server answered with status ${response.status}.`;
	const unknown = {
		code: `http_${response.status}`,
		title: "No answer",
		detail,
		status: response.status,
	};
	try {
		// A gateway's answer may be JSON of another kind.
		return { ...unknown, ...((await response.json()) as Partial<Problem>) };
	} catch {
		return unknown;
	}
}

async function read<T>(path: string): Promise<T> {
	return readJson(await (await request("GET", path)).text()) as T;
}

const JSON_BODY = { "content-type": "application/json" };

/** Few, for what is seen first is to be seen soon; the others come when one scrolls towards them. */
const PAGE = 30;

export interface PageOf {
	limit?: number;
	before?: string | undefined;
	after?: string | undefined;
	superseded?: boolean;
}

export const api = {
	conversations: (limit: number, cursor?: string) =>
		read<ConversationList>(
			`/conversations?limit=${limit}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`,
		),

	conversation: (id: string) => read<Conversation>(`/conversations/${id}`),

	rename: async (id: string, title: string) => {
		const body = JSON.stringify({ title });
		return (await (
			await request("PATCH", `/conversations/${id}`, { body, headers: JSON_BODY })
		).json()) as Conversation;
	},

	/** Reaches the server even if the page is being closed. */
	delete: async (id: string) =>
		void (await request("DELETE", `/conversations/${id}`, { keepalive: true })),

	messages: (id: string, { limit = PAGE, before, after, superseded }: PageOf = {}) => {
		const query = new URLSearchParams({ limit: String(limit) });
		if (before) query.set("before", before);
		if (after) query.set("after", after);
		if (superseded) query.set("superseded", "include");
		return read<MessageList>(`/conversations/${id}/messages?${query}`);
	},

	turn: (id: string) => read<TurnDetail>(`/turns/${id}`),

	cancel: async (turn: string) => void (await request("POST", `/turns/${turn}/cancel`)),

	/** The events of a new turn. The same key again gives the same turn. */
	send: (message: string, conversation: string | null, key: string) =>
		request("POST", "/chat", {
			body: JSON.stringify({ message, conversation_id: conversation }),
			headers: { ...JSON_BODY, accept: "text/event-stream", "idempotency-key": key },
		}),

	retry: (turn: string, key: string) =>
		request("POST", `/turns/${turn}/retry`, {
			headers: { accept: "text/event-stream", "idempotency-key": key },
		}),

	events: (turn: string, lastEventId: string | undefined, signal: AbortSignal) =>
		request("GET", `/turns/${turn}/events`, {
			headers: {
				accept: "text/event-stream",
				...(lastEventId ? { "last-event-id": lastEventId } : {}),
			},
			signal,
		}),
};
