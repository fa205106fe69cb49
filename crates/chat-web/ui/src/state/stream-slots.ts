import { signal } from "@preact/signals";
import { randomId } from "../session/random-id";

/*
 * A browser opens at most six connections to a server over HTTP/1.1, shared by all of its tabs, and
 * several windows may be visible at once. So the tabs share a few slots for streams: the tab that
 * claimed a slot or got the focus last has one, and the tab that has held its slot the longest
 * releases it. Tabs without a slot poll.
 */
const SLOTS = 3;
/** How often a holder repeats its claim, and when a silent holder's claim expires. Milliseconds. */
const HEARTBEAT = 4_000;
const EXPIRY = 12_000;

interface Claim {
	id: string;
	since: number;
	/** When the claim was last repeated; 0 releases the slot. */
	heartbeat: number;
}

export class StreamSlot {
	readonly held = signal(false);
	#channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("chat-streams") : null;
	#others = new Map<string, Claim>();
	#id = randomId();
	#since = 0;
	#timer: ReturnType<typeof setInterval> | undefined;

	constructor() {
		this.#channel?.addEventListener("message", this.#receive);
		addEventListener("focus", this.#focused);
	}

	/** Claims a slot; the tab that has held one the longest loses it. */
	claim() {
		this.#since = Date.now();
		this.held.value = true;
		this.#sendHeartbeat();
		clearInterval(this.#timer);
		this.#timer = setInterval(this.#sendHeartbeat, HEARTBEAT);
	}

	release() {
		clearInterval(this.#timer);
		if (!this.held.peek()) return;
		this.held.value = false;
		this.#send(0);
	}

	close() {
		this.release();
		this.#channel?.close();
		removeEventListener("focus", this.#focused);
	}

	#send(heartbeat: number) {
		this.#channel?.postMessage({ id: this.#id, since: this.#since, heartbeat } satisfies Claim);
	}

	#sendHeartbeat = () => this.#send(Date.now());

	#focused = () => {
		if (!this.held.peek() && this.#since > 0) this.claim();
	};

	#receive = ({ data }: MessageEvent<Claim>) => {
		const isKnown = this.#others.has(data.id);
		if (data.heartbeat === 0) this.#others.delete(data.id);
		else this.#others.set(data.id, { ...data, heartbeat: Date.now() });
		if (!this.held.peek()) return;
		// A new holder does not know yet that this tab holds a slot.
		if (!isKnown && data.heartbeat > 0) this.#sendHeartbeat();
		for (const [id, claim] of this.#others)
			if (claim.heartbeat < Date.now() - EXPIRY) this.#others.delete(id);
		const newer = [...this.#others.values()].filter(
			({ id, since }) => since > this.#since || (since === this.#since && id > this.#id),
		);
		if (newer.length >= SLOTS) this.release();
	};
}
