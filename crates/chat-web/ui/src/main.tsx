import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/jetbrains-mono/wght.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/frame.css";
import "./styles/list.css";
import "./styles/thread.css";
import "./styles/tools.css";
import "./styles/markdown.css";
import "./styles/composer.css";
import "./styles/overlays.css";
import "./styles/narrow.css";
import "./styles/forced.css";
import "./styles/print.css";
import { effect } from "@preact/signals";
import { render } from "preact";
import { createChat } from "./chat";
import { connectHost } from "./embed/bridge";
import { isEmbedded, isSignedIn, startSession, token, watchSession } from "./session/session";
import type { ChatStore } from "./state/chat-store";
import { watchConnectivity } from "./state/connectivity";
import { preparePrinting } from "./state/print";
import { startSync } from "./state/sync";
import type { TabChannel } from "./state/tab-channel";
import { watchUnloading } from "./state/unloading";
import { watchVisibility } from "./state/visibility";
import { App } from "./ui/app";
import { ChatContext } from "./ui/chat-context";
import { applyInitialTheme } from "./ui/theme";

const conversationInAddress = () => /^\/c\/([\w-]+)$/.exec(location.pathname)?.[1] ?? null;

/** Starts the chat when the user is known for the first time. */
function startWhenSignedIn(chat: ChatStore, tabs: TabChannel) {
	let hasStarted = false;
	effect(() => {
		if (!token.value || hasStarted) return;
		hasStarted = true;
		queueMicrotask(() => {
			chat.drafts.adopt();
			void chat.list.load();
			void chat.show(conversationInAddress());
			startSync(chat, tabs, isSignedIn);
			preparePrinting(chat);
		});
	});
}

function start() {
	applyInitialTheme();
	watchVisibility();
	watchConnectivity();
	watchUnloading();
	watchSession();
	const { chat, tabs } = createChat();
	const root = document.getElementById("app");
	if (root) {
		render(
			<ChatContext.Provider value={chat}>
				<App />
			</ChatContext.Provider>,
			root,
		);
	}
	addEventListener("popstate", () => {
		const id = conversationInAddress();
		// A change of the fragment alone also causes this event.
		if (id !== chat.activeConversation.peek().id.peek()) void chat.show(id);
	});
	startWhenSignedIn(chat, tabs);
	if (isEmbedded) connectHost(chat);
	void startSession();
}

start();
