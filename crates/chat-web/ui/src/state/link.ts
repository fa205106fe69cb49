import { computed, signal } from "@preact/signals";

/** Whether the browser has a network, and whether the last request was answered. */
const online = signal(navigator.onLine);
const answered = signal(true);

addEventListener("online", () => {
	online.value = true;
});
addEventListener("offline", () => {
	online.value = false;
});

export function reached(yes: boolean) {
	answered.value = yes;
}

export const link = computed<"good" | "offline" | "away">(() =>
	online.value ? (answered.value ? "good" : "away") : "offline",
);
