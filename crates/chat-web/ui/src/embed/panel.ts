import { type Call, CONNECT, type Events, type FromPanel, HELLO, type Methods } from "./protocol";

/** Where this script came from. */
const script = document.currentScript as HTMLScriptElement | null;
export const ADDRESS = new URL(script?.src ?? location.href);
const SERVER = ADDRESS.origin;

const STYLE =
	":host{display:block;block-size:32rem}iframe{display:block;inline-size:100%;block-size:100%;border:0;border-radius:inherit;color-scheme:auto}";

const TITLE = "Chat";

export type Token = string | null | undefined;

/** A frame around the chat page of the server that this script came from. */
export class ChatPanel extends HTMLElement {
	static observedAttributes = ["theme", "hue", "conversation", "label"];

	/**
	 * Gives a token whenever one is needed: at the start, and when the one before has expired. Declared alone: a page may have set it
	 * before this script came.
	 */
	declare getToken: (() => Token | Promise<Token>) | undefined;

	#frame: HTMLIFrameElement | undefined;
	#port: MessagePort | undefined;
	#calls = 0;
	#open = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
	#early: Call[] = [];

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
		addEventListener("message", this.#hello);
		root.append(frame);
	}

	disconnectedCallback() {
		removeEventListener("message", this.#hello);
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

	#hello = (event: MessageEvent) => {
		if (
			event.source !== this.#frame?.contentWindow ||
			event.origin !== SERVER ||
			event.data?.type !== HELLO
		)
			return;
		const { port1, port2 } = new MessageChannel();
		this.#port?.close();
		this.#port = port1;
		port1.onmessage = ({ data }: MessageEvent<FromPanel>) => this.#heard(data);
		this.#frame?.contentWindow?.postMessage({ type: CONNECT }, SERVER, [port2]);
		for (const call of this.#early.splice(0)) port1.postMessage(call);
	};

	#heard(message: FromPanel) {
		if ("reply" in message) {
			const waiting = this.#open.get(message.reply);
			this.#open.delete(message.reply);
			if (message.error === undefined) waiting?.resolve();
			else waiting?.reject(new Error(message.error));
			return;
		}
		if (message.event === "tokenneeded") void this.#giveToken();
		this.#tell(message.event, message.detail);
	}

	#tell<Name extends keyof Events>(event: Name, detail: Events[Name]) {
		this.dispatchEvent(new CustomEvent(`chat-${event}`, { detail, bubbles: true, composed: true }));
	}

	async #giveToken() {
		try {
			const token = await this.getToken?.();
			if (token) await this.#call("setToken", token);
		} catch (error) {
			this.#tell("trouble", {
				message: `No token. ${error instanceof Error ? error.message : String(error)}`,
			});
		}
	}

	#call(method: keyof Methods, argument: unknown): Promise<void> {
		const call: Call = { id: ++this.#calls, method, argument };
		return new Promise((resolve, reject) => {
			this.#open.set(call.id, { resolve, reject });
			if (this.#port) this.#port.postMessage(call);
			else this.#early.push(call);
		});
	}
}
