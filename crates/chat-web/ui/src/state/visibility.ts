import { signal } from "@preact/signals";

/**
 * Whether a user can see this page. A browser opens at most six connections to a server over
 * HTTP/1.1, shared by all of its tabs; so a page that nobody can see holds none.
 */
export const isPageVisible = signal(true);

/** Keeps `isPageVisible` up to date. */
export function watchVisibility() {
	let isSuspended = false;
	const update = () => {
		isPageVisible.value = !isSuspended && document.visibilityState === "visible";
	};
	const suspend = () => {
		isSuspended = true;
		update();
	};
	const resume = () => {
		isSuspended = false;
		update();
	};
	update();
	document.addEventListener("visibilitychange", update);
	document.addEventListener("freeze", suspend);
	document.addEventListener("resume", resume);
	addEventListener("pagehide", suspend);
	addEventListener("pageshow", resume);
}

/** Resolves when the page is visible or `stopped` is aborted. */
export function pageVisible(stopped: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		let unsubscribe: (() => void) | undefined;
		const end = () => {
			unsubscribe?.();
			stopped.removeEventListener("abort", end);
			resolve();
		};
		if (isPageVisible.peek() || stopped.aborted) return resolve();
		stopped.addEventListener("abort", end);
		unsubscribe = isPageVisible.subscribe((visible) => visible && end());
	});
}
