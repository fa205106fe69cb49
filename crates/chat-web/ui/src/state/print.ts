import { batch } from "@preact/signals";
import { readJson } from "../api/json";
import type { MessageList } from "../api/types";
import { authorization, userId } from "../session/session";
import { open, prependPage } from "./conversation";

const PAGE = 200;
/** So many pages are read at most; a conversation beyond is printed from there on, and says so. */
const MOST_PAGES = 25;

/**
 * Reads the earlier messages of the shown conversation, all of them, before it returns: a browser prints what is on the page when
 * `beforeprint` has been handled, and waits for nothing.
 */
function loadAllNow() {
	const shown = open.peek();
	const id = shown.id.peek();
	if (!id) return;
	batch(() => {
		for (let page = 0; page < MOST_PAGES && shown.earlier.peek(); page++) {
			const query = new URLSearchParams({
				limit: String(PAGE),
				before: shown.earlier.peek() ?? "",
			});
			const request = new XMLHttpRequest();
			request.open(
				"GET",
				`/api/${encodeURIComponent(userId())}/conversations/${id}/messages?${query}`,
				false,
			);
			request.setRequestHeader("accept", "application/json");
			for (const [name, value] of Object.entries(authorization()))
				request.setRequestHeader(name, value);
			request.send();
			if (request.status !== 200) return;
			prependPage(shown, readJson(request.responseText) as MessageList);
		}
	});
}

export function preparePrinting() {
	addEventListener("beforeprint", () => {
		try {
			loadAllNow();
		} catch {
			// The server is away: what is on the page is printed, and says that it begins later.
		}
	});
}
