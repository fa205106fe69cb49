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
import { connectHost } from "./embed/bridge";
import { embedded, startSession, token } from "./session/session";
import { go, open } from "./state/conversation";
import { adopt } from "./state/drafts";
import { loadList } from "./state/list";
import { preparePrinting } from "./state/print";
import { keepInStep } from "./state/step";
import { App } from "./ui/app";
import "./ui/theme";

const route = () => /^\/c\/([\w-]+)$/.exec(location.pathname)?.[1] ?? null;

const root = document.getElementById("app");
if (root) render(<App />, root);

addEventListener("popstate", () => {
	// A change of the fragment alone is none of the conversation.
	if (route() !== open.peek().id.peek()) go(route(), false);
});

let begun = false;
// What is the user's is read once it is known who it is.
effect(() => {
	if (!token.value || begun) return;
	begun = true;
	queueMicrotask(() => {
		adopt();
		void loadList();
		go(route(), false);
		keepInStep();
		preparePrinting();
	});
});

if (embedded) connectHost();
void startSession();
