import type { Signal } from "@preact/signals";
import type { TurnEvent } from "../api/types";
import { after, type Turn } from "./turn";

/** Text comes faster than eyes read: it is collected and shown about thirty times a second. */
const PAUSE = 32;

/** Applies the events of a turn to what is shown of it. */
export class LiveTurn {
	#next: Turn;
	#waiting = false;
	#shownAt = 0;

	constructor(readonly shown: Signal<Turn>) {
		// The events tell the whole answer again.
		this.#next = { ...shown.peek(), parts: [] };
	}

	hear(event: TurnEvent) {
		this.#next = after(this.#next, event);
		if (event.name === "done" || event.name === "error") this.show();
		// The opening alone says nothing new, and the parts that were read already are not to flicker.
		else if (event.name !== "turn" && !this.#waiting) this.#schedule();
	}

	/** Shows all that was heard. */
	show() {
		this.#waiting = false;
		this.#shownAt = performance.now();
		this.shown.value = this.#next;
	}

	#schedule() {
		this.#waiting = true;
		const show = () => {
			if (this.#waiting) this.show();
		};
		// A page that nobody sees has no frames.
		if (document.visibilityState !== "visible") {
			setTimeout(show, 200);
			return;
		}
		const wait = PAUSE - (performance.now() - this.#shownAt);
		if (wait > 4) setTimeout(() => requestAnimationFrame(show), wait - 4);
		else requestAnimationFrame(show);
	}
}
