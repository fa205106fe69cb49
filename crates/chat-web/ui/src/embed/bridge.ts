import { effect } from "@preact/signals";
import { onTokenNeeded, settings, signedIn, signIn, token } from "../session/session";
import { go, open, running, send } from "../state/conversation";
import { keepDraft } from "../state/drafts";
import { notices } from "../state/notices";
import { isOpen } from "../state/turn";
import { field } from "../ui/composer";
import { setHue, setTheme, type Theme } from "../ui/theme";
import { type Call, CONNECT, type Events, type FromPanel, HELLO } from "./protocol";

/** The panel's side: the page around this one hands over a port, if it is of an allowed origin; all else goes through the port. */
export function connectHost() {
	let port: MessagePort | undefined;
	let needed = false;
	const tell = (message: FromPanel) => port?.postMessage(message);
	const emit = <Name extends keyof Events>(event: Name, detail: Events[Name]) =>
		tell({ event, detail });

	addEventListener("message", (event) => {
		const allowed = settings.peek()?.embedders.includes(event.origin);
		if (
			!allowed ||
			event.source !== parent ||
			event.data?.type !== CONNECT ||
			!event.ports[0] ||
			port
		)
			return;
		port = event.ports[0];
		port.onmessage = ({ data }: MessageEvent<Call>) => {
			run(data).then(
				() => tell({ reply: data.id }),
				(error: unknown) =>
					tell({ reply: data.id, error: error instanceof Error ? error.message : String(error) }),
			);
		};
		emit("ready", {});
		if (needed && !token.peek()) emit("tokenneeded", {});
		report(emit);
	});
	onTokenNeeded(() => {
		needed = true;
		emit("tokenneeded", {});
	});
	// Says nothing but that it is there; who may answer is known once the settings are.
	effect(() => {
		if (settings.value) parent.postMessage({ type: HELLO }, "*");
	});
}

async function run({ method, argument }: Call): Promise<void> {
	const text = typeof argument === "string" ? argument : "";
	switch (method) {
		case "setToken":
			if (text === "") token.value = null;
			else if (!signIn(text, false)) throw new Error("That is no token, or it has expired.");
			return;
		case "setTheme":
			setTheme(["light", "dark"].includes(text) ? (text as Theme) : "auto", false);
			return;
		case "setHue":
			setHue(Number(argument));
			return;
		case "focusComposer":
			field()?.focus();
			return;
	}
	// The rest is the user's.
	await signedIn();
	await Promise.resolve();
	switch (method) {
		case "openConversation":
			go(text === "" ? null : text);
			return;
		case "sendMessage":
			if (!(await send(text))) throw new Error(notices.peek().at(-1)?.text ?? "not sent");
			return;
		case "setDraft":
			keepDraft(open.peek().id.peek(), text);
			open.peek().draftChanged.value++;
			return;
		default:
			throw new Error(`there is no method ${String(method)}`);
	}
}

/** Tells what happens on the page. */
function report(emit: <Name extends keyof Events>(event: Name, detail: Events[Name]) => void) {
	let turn: string | null = null;
	let shown: string | null | undefined;
	effect(() => {
		const conversation = open.value.id.value;
		if (conversation !== shown) emit("conversation", { id: conversation });
		shown = conversation;
		const runs = running.value?.status === "running" ? running.value.id : null;
		if (runs === turn) return;
		const before = open
			.peek()
			.turns.peek()
			.find((one) => one.peek().id === turn);
		if (turn && before && !isOpen(before.peek()))
			emit("answerend", { conversation, turn, status: before.peek().status });
		turn = runs;
		if (runs) emit("answerstart", { conversation, turn: runs });
	});
	let told = 0;
	effect(() => {
		const last = notices.value.at(-1);
		if (!last || last.id <= told) return;
		told = last.id;
		if (last.tone === "error") emit("trouble", { message: last.text });
	});
}
