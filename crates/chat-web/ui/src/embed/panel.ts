import { type Call, CONNECT, type Events, type FromPanel, HELLO, type Methods } from "./protocol";

/** The address of this script, on the chat server. */
const script = document.currentScript as HTMLScriptElement | null;
export const SCRIPT_URL = new URL(script?.src ?? location.href);
const SERVER = SCRIPT_URL.origin;

const STYLE =
	":host{display:block;block-size:32rem}iframe{display:block;inline-size:100%;block-size:100%;border:0;border-radius:inherit;color-scheme:auto}";

const TITLE = "Chat";

export type Token = string | null | undefined;

/** A frame with the chat page of the server that this script was loaded from. */
export class ChatPanel extends HTMLElement {
	static observedAttributes = ["theme", "hue", "conversation", "label"];

	/**
	 * Returns a token; called at the start and when a token has expired. The field has no
	 * initializer, because a page may set it before this script has loaded.
	 */
	declare getToken: (() => Token | Promise<Token>) | undefined;

	#frame: HTMLIFrameElement | undefined;
	#port: MessagePort | undefined;
	#lastCallId = 0;
	#pending = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
	#queued: Call[] = [];

	openConversation = (id: string | null) => this.#call("openConversation", id);
	sendMessage = (text: string) => this.#call("sendMessage", text);
	setDraft = (text: string) => this.#call("setDraft", text);
	focusComposer = () => this.#call("focusComposer", null);

	connectedCallback() {
		const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
		const sheet = new CSSStyleSheet();
		sheet.replaceSync(STYLE);
		root.adoptedStyleSheets = [sheet];
		const frame = document.createElement("iframe");
		const conversation = this.getAttribute("conversation");
		const address = new URL(conversation ? `/c/${encodeURIComponent(conversation)}` : "/", SERVER);
		for (const name of ["theme", "hue"]) {
			const value = this.getAttribute(name);
			if (value !== null) address.searchParams.set(name, value);
		}
		frame.src = address.href;
		frame.title = this.getAttribute("label") ?? TITLE;
		frame.allow = "clipboard-write";
		this.#frame = frame;
		addEventListener("message", this.#connect);
		root.append(frame);
	}

	disconnectedCallback() {
		removeEventListener("message", this.#connect);
		this.#port?.close();
		this.#port = undefined;
		this.#frame?.remove();
		this.#frame = undefined;
	}

	attributeChangedCallback(name: string, _before: string | null, value: string | null) {
		if (!this.#frame) return;
		if (name === "label") this.#frame.title = value ?? TITLE;
		else if (name === "theme") void this.#call("setTheme", value ?? "auto");
		else if (name === "hue") void this.#call("setHue", Number(value));
		else void this.openConversation(value);
	}

	#connect = (event: MessageEvent) => {
		if (
			event.source !== this.#frame?.contentWindow ||
			event.origin !== SERVER ||
			event.data?.type !== HELLO
		)
			return;
		const { port1, port2 } = new MessageChannel();
		this.#port?.close();
		this.#port = port1;
		port1.onmessage = ({ data }: MessageEvent<FromPanel>) => this.#receive(data);
		this.#frame?.contentWindow?.postMessage({ type: CONNECT }, SERVER, [port2]);
		for (const call of this.#queued.splice(0)) port1.postMessage(call);
	};

	#receive(message: FromPanel) {
		if ("reply" in message) {
			const pending = this.#pending.get(message.reply);
			this.#pending.delete(message.reply);
			if (message.error === undefined) pending?.resolve();
			else pending?.reject(new Error(message.error));
			return;
		}
		if (message.event === "tokenneeded") void this.#sendToken();
		this.#emit(message.event, message.detail);
	}

	#emit<Name extends keyof Events>(event: Name, detail: Events[Name]) {
		this.dispatchEvent(new CustomEvent(`chat-${event}`, { detail, bubbles: true, composed: true }));
	}

	async #sendToken() {
		try {
			const token = await this.getToken?.();
			if (token) await this.#call("setToken", token);
		} catch (error) {
			this.#emit("trouble", {
				message: `No token. ${error instanceof Error ? error.message : String(error)}`,
			});
		}
	}

	#call(method: keyof Methods, argument: unknown): Promise<void> {
		const call: Call = { id: ++this.#lastCallId, method, argument };
		return new Promise((resolve, reject) => {
			this.#pending.set(call.id, { resolve, reject });
			if (this.#port) this.#port.postMessage(call);
			else this.#queued.push(call);
		});
	}
}
