import { signal } from "@preact/signals";

export interface Notice {
	id: number;
	text: string;
	tone: "info" | "error";
	action?: { label: string; run: () => void } | undefined;
}

/** What is shown for a while, the newest last. */
export const notices = signal<readonly Notice[]>([]);
/** What screen readers are told. */
export const announcement = signal("");

const SHOWN = 6_000;
/** Notices without an action make room for newer ones beyond so many. */
const MOST = 4;
let made = 0;

export function tell(
	text: string,
	more: Partial<Pick<Notice, "tone" | "action">> = {},
	shown = SHOWN,
) {
	const id = ++made;
	const fresh: Notice = { id, text, tone: "info", ...more };
	// The same words once more take the place of those before.
	const others = notices
		.peek()
		.filter((other) => other.action || other.text !== text || other.tone !== fresh.tone);
	const surplus = others
		.filter((other) => !other.action)
		.slice(0, Math.max(0, others.length + 1 - MOST));
	notices.value = [...others.filter((other) => !surplus.includes(other)), fresh];
	setTimeout(() => dismiss(id), shown);
}

export function dismiss(id: number) {
	notices.value = notices.peek().filter((notice) => notice.id !== id);
}

export function say(text: string) {
	// The same words again are heard again.
	announcement.value = "";
	setTimeout(() => {
		announcement.value = text;
	}, 30);
}
