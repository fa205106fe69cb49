import { computed, signal } from "@preact/signals";

const isOnline = signal(true);
const isServerReachable = signal(true);

/** Follows the browser's own idea of whether it has a network. */
export function watchConnectivity() {
	const update = () => {
		isOnline.value = navigator.onLine;
	};
	update();
	addEventListener("online", update);
	addEventListener("offline", update);
}

/** Records whether the latest request got a response. */
export function recordReachability(reachable: boolean) {
	isServerReachable.value = reachable;
}

export const connectivity = computed<"good" | "offline" | "unreachable">(() => {
	if (!isOnline.value) return "offline";
	return isServerReachable.value ? "good" : "unreachable";
});
