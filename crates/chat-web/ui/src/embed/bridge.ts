import { effect } from "@preact/signals";
import { onTokenNeeded, settings, signedIn, signIn, token } from "../session/session";
import type { ChatStore } from "../state/chat-store";
import { notices } from "../state/notices";
import { isUnfinished } from "../state/turn";
import { composerField } from "../ui/composer";
import { applyTheme, setHue, type Theme } from "../ui/theme";
import { type Call, CONNECT, type Events, type FromPanel, HELLO } from "./protocol";

type Emit = <Name extends keyof Events>(event: Name, detail: Events[Name]) => void;

/**
 * Connects the page to the page that embeds it. An embedder of an allowed origin sends a port;
 * everything after that goes through the port.
 */
export function connectHost(chat: ChatStore) {
	let port: MessagePort | undefined;
	let isTokenNeeded = false;
	const post = (message: FromPanel) => port?.postMessage(message);
	const emit: Emit = (event, detail) => post({ event, detail });
	const handle = async (call: Call) => {
		try {
			await runCall(chat, call);
			post({ reply: call.id });
		} catch (error) {
			post({ reply: call.id, error: error instanceof Error ? error.message : String(error) });
		}
	};

	addEventListener("message", (event) => {
		const isAllowed = settings.peek()?.embedders.includes(event.origin);
		const isConnect = event.source === parent && event.data?.type === CONNECT;
		if (!isAllowed || !isConnect || !event.ports[0] || port) return;
		port = event.ports[0];
		port.onmessage = ({ data }: MessageEvent<Call>) => void handle(data);
		emit("ready", {});
		if (isTokenNeeded && !token.peek()) emit("tokenneeded", {});
		reportEvents(chat, emit);
	});
	onTokenNeeded(() => {
		isTokenNeeded = true;
		emit("tokenneeded", {});
	});
	// The greeting contains no data, so any page may receive it. The settings name the origins that
	// may answer.
	effect(() => {
		if (settings.value) parent.postMessage({ type: HELLO }, "*");
	});
}

async function runCall(chat: ChatStore, { method, argument }: Call): Promise<void> {
	const text = typeof argument === "string" ? argument : "";
	switch (method) {
		case "setToken":
			if (text === "") token.value = null;
			else if (!signIn(text, "page")) throw new Error("That is not a token, or it has expired.");
			return;
		case "setTheme":
			applyTheme(["light", "dark"].includes(text) ? (text as Theme) : "auto");
			return;
		case "setHue":
			setHue(Number(argument));
			return;
		case "focusComposer":
			composerField()?.focus();
			return;
	}
	// The other methods act for the user. The page starts in a microtask after the sign-in.
	await signedIn();
	await Promise.resolve();
	const active = chat.activeConversation.peek();
	switch (method) {
		case "openConversation":
			void chat.navigateTo(text === "" ? null : text);
			return;
		case "sendMessage":
			if (!(await active.send(text))) throw new Error(notices.peek().at(-1)?.text ?? "Not sent.");
			return;
		case "setDraft":
			chat.drafts.replace(active.id.peek(), text);
			return;
		default:
			throw new Error(`there is no method ${String(method)}`);
	}
}

/** Emits the events that `docs/ui.md` lists. */
function reportEvents(chat: ChatStore, emit: Emit) {
	let runningTurn: string | null = null;
	let shownConversation: string | null | undefined;
	effect(() => {
		const active = chat.activeConversation.value;
		const conversation = active.id.value;
		if (conversation !== shownConversation) emit("conversation", { id: conversation });
		shownConversation = conversation;
		const unfinished = chat.unfinishedTurn.value;
		const nowRunning = unfinished?.status === "running" ? unfinished.id : null;
		if (nowRunning === runningTurn) return;
		const ended = active.turns
			.peek()
			.map((turn) => turn.peek())
			.find(({ id }) => id === runningTurn);
		if (ended && !isUnfinished(ended))
			emit("answerend", { conversation, turn: ended.id, status: ended.status });
		runningTurn = nowRunning;
		if (nowRunning) emit("answerstart", { conversation, turn: nowRunning });
	});
	let reportedNotice = 0;
	effect(() => {
		const last = notices.value.at(-1);
		if (!last || last.id <= reportedNotice) return;
		reportedNotice = last.id;
		if (last.tone === "error") emit("trouble", { message: last.text });
	});
}
