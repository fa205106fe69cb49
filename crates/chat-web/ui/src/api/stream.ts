import { signedIn } from "../session/session";
import { StreamSlot } from "../state/stream-slots";
import { seen, visible } from "../state/visibility";
import { api, Refused } from "./client";
import { readJson } from "./json";
import { type Frame, sseParser } from "./sse";
import type { TurnEvent, TurnStatus } from "./types";

/** The frames of an answer, one by one. */
export class Frames {
	#waiting: Frame[] = [];
	#reader: ReadableStreamDefaultReader<string> | undefined;
	#parse = sseParser((frame) => this.#waiting.push(frame));

	constructor(response: Response) {
		this.#reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
	}

	/** The next frame; `null` at the end. */
	async next(): Promise<Frame | null> {
		for (;;) {
			const frame = this.#waiting.shift();
			if (frame) return frame;
			const piece = await this.#reader?.read();
			if (!piece || piece.done) return null;
			this.#parse(piece.value);
		}
	}

	close() {
		this.#reader?.cancel().catch(() => {});
	}
}

export const eventOf = (frame: Frame) =>
	({ name: frame.event, data: readJson(frame.data) }) as TurnEvent;

/** A turn that has begun. */
export interface Begun {
	turn: string;
	conversation: string;
	status: TurnStatus;
}

/** What an answer to `send` or `retry` begins with: the turn. */
export async function opening(frames: Frames): Promise<Begun> {
	const frame = await frames.next();
	const event = frame && eventOf(frame);
	if (event?.name === "turn")
		return {
			turn: event.data.turn_id,
			conversation: event.data.conversation_id,
			status: event.data.status,
		};
	if (event?.name === "error") throw new Refused(event.data);
	throw new Refused({
		code: "unreachable",
		title: "",
		detail: "The connection broke before the server answered.",
		status: 0,
	});
}

export interface Follower {
	event: (event: TurnEvent) => void;
	/** Whether news come at the moment. */
	link: (connected: boolean) => void;
	/** The turn is not there any more. */
	gone: () => void;
}

const FIRST_PAUSE = 300;
const LONGEST_PAUSE = 8_000;
/** A tab without a slot for its stream looks for news this often, and so long each time, in milliseconds. */
const GLANCE_EVERY = 3_000;
const GLANCE = 700;

/**
 * Tells all events of a turn from its start, each once, until its end; goes on after the last one whenever the connection breaks.
 * While nobody can see the page there is no connection; once somebody can, it goes on after the last event too. While more tabs are
 * seen than may have a stream, some look for news now and then instead.
 * `first` are the frames of an answer that has begun already.
 */
export function follow(turn: string, on: Follower, first?: Frames): () => void {
	const control = new AbortController();
	const { signal } = control;
	let frames = first;
	let last: string | undefined;
	let failures = 0;
	let wake = () => {};
	let glance: ReturnType<typeof setTimeout> | undefined;
	/** Ends the request that runs, if there is one. */
	let request = new AbortController();
	const online = () => wake();
	addEventListener("online", online);
	const letGo = () => {
		request.abort();
		frames?.close();
	};
	const slot = new StreamSlot();
	const unsubscribe = [
		visible.subscribe((yes) => {
			if (yes) slot.take();
			else slot.giveBack();
		}),
		slot.held.subscribe((yes) => {
			if (yes) wake();
			else letGo();
		}),
	];
	const pause = (milliseconds: number) =>
		new Promise<void>((resolve) => {
			wake = resolve;
			setTimeout(resolve, milliseconds);
		});
	const stop = () => {
		control.abort();
		letGo();
		wake();
		for (const end of unsubscribe) end();
		slot.close();
		removeEventListener("online", online);
	};

	/** Whether the end was read. */
	const readAll = async (): Promise<boolean> => {
		if (!frames) {
			request = new AbortController();
			const response = await api.events(turn, last, request.signal);
			if (response.status === 204) return true;
			frames = new Frames(response);
			if (!slot.held.peek()) glance = setTimeout(() => slot.held.peek() || letGo(), GLANCE);
			on.link(true);
		}
		for (;;) {
			const frame = await frames.next();
			if (signal.aborted) return true;
			if (!frame || request.signal.aborted) return false;
			failures = 0;
			// Without an id it is about reading, not about the turn.
			if (frame.event === "error" && frame.id === undefined) return false;
			if (frame.id !== undefined) last = frame.id;
			const event = eventOf(frame);
			on.event(event);
			if (event.name === "done" || event.name === "error") return true;
		}
	};

	const run = async () => {
		while (!signal.aborted) {
			await seen(signal);
			if (!slot.held.peek() && !signal.aborted) await pause(GLANCE_EVERY);
			if (signal.aborted) break;
			if (!visible.peek()) continue;
			try {
				if (await readAll()) break;
			} catch (error) {
				if (signal.aborted) break;
				if (error instanceof Refused && error.problem.status === 404) {
					on.gone();
					break;
				}
				if (error instanceof Refused && error.problem.status === 401) await signedIn();
			} finally {
				clearTimeout(glance);
			}
			frames?.close();
			frames = undefined;
			if (signal.aborted) break;
			// Let go on purpose: this is no broken connection.
			if (request.signal.aborted) continue;
			on.link(false);
			await pause(
				Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures++) * (0.75 + Math.random() / 2),
			);
		}
		stop();
	};
	void run();
	return stop;
}
