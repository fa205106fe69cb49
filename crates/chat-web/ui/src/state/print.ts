import { batch } from "@preact/signals";
import { messagesPath } from "../api/client";
import { readJson } from "../api/json";
import type { MessageList } from "../api/types";
import { authorization, userId } from "../session/session";
import type { ChatStore } from "./chat-store";

const PAGE_SIZE = 200;
/** Earlier messages beyond this many pages are not printed; the print says so. */
const MAX_PAGES = 25;

/**
 * Reads all earlier messages of the active conversation, synchronously: a browser prints the page
 * as it is when the handlers of `beforeprint` return.
 */
function loadAllEarlier(chat: ChatStore) {
	const active = chat.activeConversation.peek();
	const id = active.id.peek();
	if (!id) return;
	batch(() => {
		for (let count = 0; count < MAX_PAGES; count++) {
			const before = active.earlierCursor.peek();
			if (!before) return;
			const request = new XMLHttpRequest();
			const path = messagesPath(id, { limit: PAGE_SIZE, before });
			request.open("GET", `/api/${encodeURIComponent(userId())}${path}`, false);
			request.setRequestHeader("accept", "application/json");
			for (const [name, value] of Object.entries(authorization()))
				request.setRequestHeader(name, value);
			request.send();
			if (request.status !== 200) return;
			active.prependPage(readJson(request.responseText) as MessageList);
		}
	});
}

/** Makes the browser print whole conversations. */
export function preparePrinting(chat: ChatStore) {
	addEventListener("beforeprint", () => {
		try {
			loadAllEarlier(chat);
		} catch {
			// Without the server, the messages on the page are printed, and a note about the rest.
		}
	});
}
