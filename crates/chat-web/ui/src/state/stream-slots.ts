import { signal } from "@preact/signals";
import { unique } from "../session/unique";

/*
 * A browser has six connections to a server over HTTP/1.1, for all of its tabs together, and the windows of a desk may all be visible.
 * So the tabs share a few slots for streams: the tab that asked last, or was looked at last, has one; the tab that has had its slot the
 * longest gives it back. Tabs without a slot look for news now and then.
 */
const MOST = 3;
/** A holder says so this often, and is forgotten when it was silent for a while, in milliseconds. */
const SAYS = 4_000;
const FORGOTTEN = 12_000;

interface Claim {
	id: string;
	since: number;
	/** When it was last heard of; 0: it gave its slot back. */
	heard: number;
}

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("chat-streams") : null;
const others = new Map<string, Claim>();

export class StreamSlot {
	readonly held = signal(false);
	#id = unique();
	#since = 0;
	#timer: ReturnType<typeof setInterval> | undefined;

	constructor() {
		channel?.addEventListener("message", this.#hear);
		addEventListener("focus", this.#focused);
	}

	/** Takes a slot; the tab that has had one the longest loses it. */
	take() {
		this.#since = Date.now();
		this.held.value = true;
		this.#say();
		clearInterval(this.#timer);
		this.#timer = setInterval(this.#say, SAYS);
	}

	giveBack() {
		clearInterval(this.#timer);
		if (!this.held.peek()) return;
		this.held.value = false;
		channel?.postMessage({ id: this.#id, since: this.#since, heard: 0 } satisfies Claim);
	}

	close() {
		this.giveBack();
		channel?.removeEventListener("message", this.#hear);
		removeEventListener("focus", this.#focused);
	}

	#say = () =>
		channel?.postMessage({ id: this.#id, since: this.#since, heard: Date.now() } satisfies Claim);

	#focused = () => {
		if (!this.held.peek() && this.#since > 0) this.take();
	};

	#hear = ({ data }: MessageEvent<Claim>) => {
		const known = others.has(data.id);
		if (data.heard === 0) others.delete(data.id);
		else others.set(data.id, { ...data, heard: Date.now() });
		if (!this.held.peek()) return;
		// A newcomer learns who else holds a slot.
		if (!known && data.heard > 0) this.#say();
		for (const [id, claim] of others) if (claim.heard < Date.now() - FORGOTTEN) others.delete(id);
		const newer = [...others.values()].filter(
			({ id, since }) => since > this.#since || (since === this.#since && id > this.#id),
		);
		if (newer.length >= MOST) this.giveBack();
	};
}
