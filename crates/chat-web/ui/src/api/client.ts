import { authorization, rejectToken, userId } from "../session/session";
import { recordReachability } from "../state/connectivity";
import { readJson } from "./json";
import type { Conversation, ConversationList, MessageList, Problem, TurnDetail } from "./types";

/** A request that the server rejected, or that did not reach it: then the status is 0. */
export class ApiError extends Error {
	constructor(readonly problem: Problem) {
		super(problem.detail);
	}
}

/** The text of an error, for users. */
export function errorText(error: unknown): string {
	if (error instanceof ApiError) return error.problem.detail ?? error.problem.title;
	return error instanceof Error ? error.message : String(error);
}

/** The problem of a request that got no response. */
export const unreachable = (detail: string): Problem => ({
	code: "unreachable",
	title: "No answer",
	detail,
	status: 0,
});

/** Sends a request below the user's path. Signs the user out if the token is rejected. */
export async function request(
	method: string,
	path: string,
	init: RequestInit = {},
): Promise<Response> {
	const credentials = authorization();
	const headers = {
		accept: "application/json",
		...(init.headers as Record<string, string>),
		...credentials,
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
		recordReachability(false);
		throw new ApiError(unreachable("The server cannot be reached."));
	}
	recordReachability(true);
	if (response.ok) return response;
	const problem = await problemOf(response);
	if (response.status === 401) rejectToken(problem, credentials.authorization);
	throw new ApiError(problem);
}

async function problemOf(response: Response): Promise<Problem> {
	const fallback = {
		code: `http_${response.status}`,
		title: "No answer",
		detail: `The server answered with status ${response.status}.`,
		status: response.status,
	};
	try {
		// A gateway's answer may be JSON of another kind.
		return { ...fallback, ...((await response.json()) as Partial<Problem>) };
	} catch {
		return fallback;
	}
}

async function read<T>(path: string): Promise<T> {
	return readJson(await (await request("GET", path)).text()) as T;
}

const JSON_BODY = { "content-type": "application/json" };

/** A short page shows the end of a conversation soon; scrolling up reads more. */
const PAGE_SIZE = 30;

export interface MessagePageOptions {
	limit?: number;
	before?: string | undefined;
	superseded?: boolean;
}

/** The path of a page of messages, below the user's path. */
export function messagesPath(
	id: string,
	{ limit = PAGE_SIZE, before, superseded }: MessagePageOptions = {},
): string {
	const query = new URLSearchParams({ limit: String(limit) });
	if (before) query.set("before", before);
	if (superseded) query.set("superseded", "include");
	return `/conversations/${id}/messages?${query}`;
}

export const api = {
	conversations: (limit: number, cursor?: string) =>
		read<ConversationList>(
			`/conversations?limit=${limit}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`,
		),

	conversation: (id: string) => read<Conversation>(`/conversations/${id}`),

	rename: async (id: string, title: string) => {
		const body = JSON.stringify({ title });
		const response = await request("PATCH", `/conversations/${id}`, { body, headers: JSON_BODY });
		return (await response.json()) as Conversation;
	},

	/** Reaches the server even if the page is being closed. */
	delete: async (id: string) =>
		void (await request("DELETE", `/conversations/${id}`, { keepalive: true })),

	messages: (id: string, options?: MessagePageOptions) =>
		read<MessageList>(messagesPath(id, options)),

	turn: (id: string) => read<TurnDetail>(`/turns/${id}`),

	cancel: async (turn: string) => void (await request("POST", `/turns/${turn}/cancel`)),

	/** Sends a message and streams its turn. The same key again gives the same turn. */
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
