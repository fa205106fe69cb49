import { token } from "../session/session";
import { go, load, open, refresh, sync } from "./conversation";
import { link } from "./link";
import { forget } from "./list";
import { type News, onNews } from "./tabs";

/** How often the server is asked what changed elsewhere. Tabs of the same browser tell each other at once. */
const EVERY = 5_000;

async function look() {
	if (!token.peek() || document.visibilityState !== "visible") return;
	try {
		await refresh();
		const shown = open.peek();
		if (shown.trouble.peek() && !shown.trouble.peek()?.gone) await load(shown);
	} catch {
		// It is asked again.
	}
}

async function hear(news: News) {
	const shown = open.peek();
	const mine = news.conversation === shown.id.peek();
	try {
		if (news.kind === "deleted") {
			forget(news.conversation);
			if (mine) go(null);
			return;
		}
		if (mine) await sync(shown);
		await refresh();
	} catch {
		// The next look finds it.
	}
}

export function keepInStep() {
	onNews((news) => void hear(news));
	setInterval(() => void look(), EVERY);
	addEventListener("visibilitychange", () => void look());
	addEventListener("focus", () => void look());
	addEventListener("online", () => void look());
	// A server that was away is asked again soon.
	link.subscribe((state) => {
		if (state === "away") setTimeout(() => void look(), 1_000);
	});
}
