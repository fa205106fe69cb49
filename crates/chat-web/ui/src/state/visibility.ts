import { signal } from "@preact/signals";

let frozen = false;

/**
 * Whether somebody can see this page. A browser has six connections to a server over HTTP/1.1, for all of its tabs together, so
 * that a page which nobody sees holds none.
 */
export const visible = signal(document.visibilityState === "visible");

const look = () => {
	visible.value = !frozen && document.visibilityState === "visible";
};
const put = (yes: boolean) => () => {
	frozen = yes;
	look();
};

document.addEventListener("visibilitychange", look);
for (const name of ["freeze", "resume"] as const)
	document.addEventListener(name, put(name === "freeze"));
addEventListener("pagehide", put(true));
addEventListener("pageshow", put(false));

/** Waits until somebody can see this page, or until `stopped`. */
export function seen(stopped: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		let unsubscribe: (() => void) | undefined;
		const end = () => {
			unsubscribe?.();
			stopped.removeEventListener("abort", end);
			resolve();
		};
		if (visible.peek() || stopped.aborted) return resolve();
		stopped.addEventListener("abort", end);
		unsubscribe = visible.subscribe((yes) => yes && end());
	});
}
