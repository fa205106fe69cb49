import { signedIn } from "../session/session";
import { StreamSlot } from "../state/stream-slots";
import { isPageVisible, pageVisible } from "../state/visibility";
import { ApiError, api, unreachable } from "./client";
import { readJson } from "./json";
import { type Frame, sseParser } from "./sse";
import type { TurnEvent, TurnStatus } from "./types";

/** The frames of an event stream, one by one. */
export class FrameReader {
	#buffered: Frame[] = [];
	#reader: ReadableStreamDefaultReader<string> | undefined;
	#parse = sseParser((frame) => this.#buffered.push(frame));

	constructor(response: Response) {
		this.#reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
	}

	/** Returns the next frame; `null` at the end of the stream. */
	async next(): Promise<Frame | null> {
		for (;;) {
			const frame = this.#buffered.shift();
			if (frame) return frame;
			const chunk = await this.#reader?.read();
			if (!chunk || chunk.done) return null;
			this.#parse(chunk.value);
		}
	}

	close() {
		this.#reader?.cancel().catch(() => {});
	}
}

const eventOf = (frame: Frame) => ({ name: frame.event, data: readJson(frame.data) }) as TurnEvent;

/** A stream of a turn's events that is already open. */
export type OpenStream = Pick<FrameReader, "next" | "close">;

/** A turn that the server has accepted, and the stream of its events. */
export interface StartedTurn {
	turn: string;
	conversation: string;
	status: TurnStatus;
	stream: OpenStream;
}

/** Reads the first event of a response to `api.send` or `api.retry`. */
export async function startedTurn(response: Response): Promise<StartedTurn> {
	const stream = new FrameReader(response);
	const frame = await stream.next();
	const event = frame && eventOf(frame);
	if (event?.name === "turn") {
		const { turn_id, conversation_id, status } = event.data;
		return { turn: turn_id, conversation: conversation_id, status, stream };
	}
	if (event?.name === "error") throw new ApiError(event.data);
	throw new ApiError(unreachable("The connection broke before the server answered."));
}

export interface TurnObserver {
	onEvent: (event: TurnEvent) => void;
	onConnectionChange: (connected: boolean) => void;
	/** The turn does not exist any more. */
	onGone: () => void;
}

/** Backoff between attempts to reconnect, in milliseconds. */
const FIRST_BACKOFF = 300;
const MAX_BACKOFF = 8_000;
/** A tab without a stream slot polls this often, for this long each time, in milliseconds. */
const POLL_INTERVAL = 3_000;
const POLL_DURATION = 700;

/**
 * Delivers all events of a turn from its start, each once, until its end. After a broken connection
 * it resumes behind the last event. A hidden page closes the connection and resumes it when it is
 * visible again. While more tabs are visible than may have a stream, some poll instead.
 *
 * `stream` is a stream of the turn that is already open. Returns a function that stops following.
 */
export function followTurn(turn: string, observer: TurnObserver, stream?: OpenStream): () => void {
	const control = new AbortController();
	const { signal } = control;
	let frames = stream;
	let lastEventId: string | undefined;
	let failures = 0;
	let wake = () => {};
	let pollTimer: ReturnType<typeof setTimeout> | undefined;
	let request = new AbortController();
	const online = () => wake();
	addEventListener("online", online);
	const disconnect = () => {
		request.abort();
		frames?.close();
	};
	const slot = new StreamSlot();
	const unsubscribe = [
		isPageVisible.subscribe((visible) => {
			if (visible) slot.claim();
			else slot.release();
		}),
		slot.held.subscribe((held) => {
			if (held) wake();
			else disconnect();
		}),
	];
	const pause = (milliseconds: number) =>
		new Promise<void>((resolve) => {
			wake = resolve;
			setTimeout(resolve, milliseconds);
		});
	const stop = () => {
		control.abort();
		disconnect();
		wake();
		for (const end of unsubscribe) end();
		slot.close();
		removeEventListener("online", online);
	};

	/** Reads until the connection ends; returns whether the turn has ended. */
	const readToEnd = async (): Promise<boolean> => {
		if (!frames) {
			request = new AbortController();
			const response = await api.events(turn, lastEventId, request.signal);
			if (response.status === 204) return true;
			frames = new FrameReader(response);
			if (!slot.held.peek())
				pollTimer = setTimeout(() => slot.held.peek() || disconnect(), POLL_DURATION);
			observer.onConnectionChange(true);
		}
		for (;;) {
			const frame = await frames.next();
			if (signal.aborted) return true;
			if (!frame || request.signal.aborted) return false;
			failures = 0;
			// An error without an id is about this connection, not about the turn.
			if (frame.event === "error" && frame.id === undefined) return false;
			if (frame.id !== undefined) lastEventId = frame.id;
			const event = eventOf(frame);
			observer.onEvent(event);
			if (event.name === "done" || event.name === "error") return true;
		}
	};

	const run = async () => {
		while (!signal.aborted) {
			await pageVisible(signal);
			if (!slot.held.peek() && !signal.aborted) await pause(POLL_INTERVAL);
			if (signal.aborted) break;
			if (!isPageVisible.peek()) continue;
			try {
				if (await readToEnd()) break;
			} catch (error) {
				if (signal.aborted) break;
				if (error instanceof ApiError && error.problem.status === 404) {
					observer.onGone();
					break;
				}
				if (error instanceof ApiError && error.problem.status === 401) await signedIn();
			} finally {
				clearTimeout(pollTimer);
			}
			frames?.close();
			frames = undefined;
			if (signal.aborted) break;
			// Disconnected on purpose: the connection is not broken.
			if (request.signal.aborted) continue;
			observer.onConnectionChange(false);
			await pause(
				Math.min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** failures++) * (0.75 + Math.random() / 2),
			);
		}
		stop();
	};
	void run();
	return stop;
}
