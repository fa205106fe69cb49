import { signal } from "@preact/signals";

export interface Notice {
	id: number;
	text: string;
	tone: "info" | "error";
	action?: { label: string; run: () => void } | undefined;
}

export interface NoticeOptions {
	tone?: Notice["tone"];
	action?: Notice["action"];
	/** How long the notice is shown, in milliseconds. */
	duration?: number;
}

/** The notices that are shown, the newest last. */
export const notices = signal<readonly Notice[]>([]);
/** The text of the live region that screen readers read aloud. */
export const announcement = signal("");

const DURATION = 6_000;
/** Beyond this number, notices without an action make room for newer ones. */
const LIMIT = 4;
/** Screen readers ignore a live region that is emptied and filled in the same frame. */
const ANNOUNCE_DELAY = 30;
let lastId = 0;

/** Shows a notice for a while. A notice with the same text and tone is replaced. */
export function notify(
	text: string,
	{ tone = "info", action, duration = DURATION }: NoticeOptions = {},
) {
	const id = ++lastId;
	const others = notices
		.peek()
		.filter((other) => other.action || other.text !== text || other.tone !== tone);
	const surplus = others
		.filter((other) => !other.action)
		.slice(0, Math.max(0, others.length + 1 - LIMIT));
	notices.value = [
		...others.filter((other) => !surplus.includes(other)),
		{ id, text, tone, action },
	];
	setTimeout(() => dismiss(id), duration);
}

export function dismiss(id: number) {
	notices.value = notices.peek().filter((notice) => notice.id !== id);
}

/** Makes screen readers read a text aloud, also when it equals the previous one. */
export function announce(text: string) {
	announcement.value = "";
	setTimeout(() => {
		announcement.value = text;
	}, ANNOUNCE_DELAY);
}
