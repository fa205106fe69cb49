import type { Signal } from "@preact/signals";
import type { TurnEvent } from "../api/types";
import { applyEvent, type Turn } from "./turn";

/** Runs a function when the page should next be drawn. */
export type RenderScheduler = (render: () => void) => void;

/** Text arrives faster than anyone reads: drawing is limited to about thirty times a second. */
const FRAME_INTERVAL = 32;
/** A hidden page gets no animation frames. */
const HIDDEN_INTERVAL = 200;

/** Draws on animation frames, at most thirty times a second. */
export function animationFrames(): RenderScheduler {
	let lastRender = 0;
	return (render) => {
		const run = () => {
			lastRender = performance.now();
			render();
		};
		if (document.visibilityState !== "visible") {
			setTimeout(run, HIDDEN_INTERVAL);
			return;
		}
		const wait = FRAME_INTERVAL - (performance.now() - lastRender);
		if (wait > 4) setTimeout(() => requestAnimationFrame(run), wait - 4);
		else requestAnimationFrame(run);
	};
}

/** Applies the events of a turn to the turn that is shown. */
export class LiveTurn {
	#latest: Turn;
	#scheduled = false;

	constructor(
		readonly shown: Signal<Turn>,
		readonly schedule: RenderScheduler,
	) {
		// The event stream repeats the whole answer.
		this.#latest = { ...shown.peek(), parts: [] };
	}

	apply(event: TurnEvent) {
		this.#latest = applyEvent(this.#latest, event);
		if (event.name === "done" || event.name === "error") this.#show();
		// After the opening event alone, the parts that were read before would disappear for a moment.
		else if (event.name !== "turn" && !this.#scheduled) {
			this.#scheduled = true;
			this.schedule(() => {
				if (this.#scheduled) this.#show();
			});
		}
	}

	#show() {
		this.#scheduled = false;
		this.shown.value = this.#latest;
	}
}
