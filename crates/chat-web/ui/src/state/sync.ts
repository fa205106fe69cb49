import type { ChatStore } from "./chat-store";
import { connectivity } from "./connectivity";
import type { TabChannel, TabMessage } from "./tab-channel";

/** How often the server is polled for changes by other browsers, in milliseconds. */
const POLL_INTERVAL = 5_000;
/** How soon a server that could not be reached is polled again, in milliseconds. */
const RETRY_DELAY = 1_000;

/** Reads what other browsers changed. Errors are ignored: the next poll tries again. */
async function poll(chat: ChatStore, isSignedIn: () => boolean) {
	if (!isSignedIn() || document.visibilityState !== "visible") return;
	try {
		await chat.refresh();
		const active = chat.activeConversation.peek();
		const trouble = active.trouble.peek();
		if (trouble && !trouble.isGone) await active.load();
	} catch {
		// The next poll tries again.
	}
}

/** Applies a change that another tab of this browser reports. */
async function applyTabMessage(chat: ChatStore, { kind, conversation }: TabMessage) {
	const active = chat.activeConversation.peek();
	const isActive = conversation === active.id.peek();
	try {
		if (kind === "deleted") {
			chat.list.remove(conversation);
			if (isActive) await chat.navigateTo(null);
			return;
		}
		if (isActive) await active.sync();
		await chat.refresh();
	} catch {
		// The next poll reads the change.
	}
}

/** Keeps the page in step with other tabs and other browsers. */
export function startSync(chat: ChatStore, tabs: TabChannel, isSignedIn: () => boolean) {
	const pollNow = () => void poll(chat, isSignedIn);
	tabs.subscribe((message) => void applyTabMessage(chat, message));
	setInterval(pollNow, POLL_INTERVAL);
	addEventListener("visibilitychange", pollNow);
	addEventListener("focus", pollNow);
	addEventListener("online", pollNow);
	connectivity.subscribe((state) => {
		if (state === "unreachable") setTimeout(pollNow, RETRY_DELAY);
	});
}
