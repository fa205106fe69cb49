import { ChatPanel, type Token } from "./panel";

/** The options of ChatKit that have an effect here. */
interface Options {
	api?: { getClientSecret?: (current: string | null) => Token | Promise<Token> };
	theme?: string | { colorScheme?: string };
	initialThread?: string | null;
	frameTitle?: string;
}

interface ComposerText {
	text?: string;
	content?: { text: string }[];
	newThread?: boolean;
}

/** A thread is a conversation; its id has another form, as at `/chatkit`. */
const PREFIX = "thr_";
const threadOf = (conversation: string | null) =>
	conversation && PREFIX + conversation.replaceAll("-", "");
const conversationOf = (thread: string | null) =>
	thread?.startsWith(PREFIX)
		? thread.slice(PREFIX.length).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")
		: thread;

const textOf = ({ text, content }: ComposerText) =>
	text ?? content?.map((part) => part.text).join("") ?? "";

/** The panel with the interface of OpenAI's element <openai-chatkit>. */
export class ChatKitPanel extends ChatPanel {
	#options: Options = {};
	#resolveOptions = () => {};
	/** Resolves when the options are set for the first time. */
	#optionsSet = new Promise<void>((resolve) => {
		this.#resolveOptions = resolve;
	});
	#hasOptions = false;
	#secret: string | null = null;

	override getToken = async () => {
		await this.#optionsSet;
		const token = await this.#options.api?.getClientSecret?.(this.#secret);
		this.#secret = token ?? null;
		return token;
	};

	/** Replaces all options. */
	setOptions(options: Options) {
		this.#options = options;
		const theme = typeof options.theme === "object" ? options.theme.colorScheme : options.theme;
		this.setAttribute("theme", theme ?? "light");
		if (options.frameTitle !== undefined) this.setAttribute("label", options.frameTitle);
		if (this.#hasOptions) return;
		this.#hasOptions = true;
		this.#resolveOptions();
		if (options.initialThread) void this.setThreadId(options.initialThread).catch(() => {});
	}

	setThreadId = (thread: string | null) => this.openConversation(conversationOf(thread));
	setComposerValue = (value: ComposerText) => this.setDraft(textOf(value));

	sendUserMessage = async (message: ComposerText) => {
		if (message.newThread) await this.openConversation(null);
		await this.sendMessage(textOf(message));
	};

	/** The page fetches updates by itself. */
	fetchUpdates = async () => {};

	constructor() {
		super();
		const emit = (event: string, detail?: unknown) =>
			this.dispatchEvent(
				new CustomEvent(`chatkit.${event}`, { detail, bubbles: true, composed: true }),
			);
		const on = <Detail>(name: string, run: (detail: Detail) => void) =>
			this.addEventListener(`chat-${name}`, (event) => run((event as CustomEvent<Detail>).detail));
		on("ready", () => emit("ready"));
		on("conversation", ({ id }: { id: string | null }) =>
			emit("thread.change", { threadId: threadOf(id) }),
		);
		on("answerstart", () => emit("response.start"));
		on("answerend", () => emit("response.end"));
		on("trouble", ({ message }: { message: string }) =>
			emit("error", { error: new Error(message) }),
		);
	}
}
