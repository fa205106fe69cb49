import { ChatPanel, type Token } from "./panel";

/** Of ChatKit's options, those that mean something here. */
interface Options {
	api?: { getClientSecret?: (current: string | null) => Token | Promise<Token> };
	theme?: string | { colorScheme?: string };
	initialThread?: string | null;
	frameTitle?: string;
}

interface Said {
	text?: string;
	content?: { text: string }[];
	newThread?: boolean;
}

/** Threads are conversations under other names, as at `/chatkit`. */
const PREFIX = "thr_";
const threadOf = (conversation: string | null) =>
	conversation && PREFIX + conversation.replaceAll("-", "");
const conversationOf = (thread: string | null) =>
	thread?.startsWith(PREFIX)
		? thread.slice(PREFIX.length).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")
		: thread;

const textOf = ({ text, content }: Said) =>
	text ?? content?.map((part) => part.text).join("") ?? "";

/** The panel as OpenAI's element <openai-chatkit>: pages that were written for that one work with this one. */
export class ChatKitPanel extends ChatPanel {
	#options: Options = {};
	#told = () => {};
	#first: Promise<void> | null = new Promise((resolve) => {
		this.#told = resolve;
	});
	#secret: string | null = null;

	override getToken = async () => {
		await this.#first;
		const token = await this.#options.api?.getClientSecret?.(this.#secret);
		this.#secret = token ?? null;
		return token;
	};

	/** Takes the place of all options before. */
	setOptions(options: Options) {
		this.#options = options;
		const theme = typeof options.theme === "object" ? options.theme.colorScheme : options.theme;
		this.setAttribute("theme", theme ?? "light");
		if (options.frameTitle !== undefined) this.setAttribute("label", options.frameTitle);
		if (this.#first === null) return;
		this.#first = null;
		this.#told();
		if (options.initialThread) void this.setThreadId(options.initialThread).catch(() => {});
	}

	setThreadId = (thread: string | null) => this.openConversation(conversationOf(thread));
	setComposerValue = (value: Said) => this.setDraft(textOf(value));

	sendUserMessage = async (message: Said) => {
		if (message.newThread) await this.openConversation(null);
		await this.sendMessage(textOf(message));
	};

	/** The page fetches them by itself. */
	fetchUpdates = async () => {};

	constructor() {
		super();
		const tell = (event: string, detail?: unknown) =>
			this.dispatchEvent(
				new CustomEvent(`chatkit.${event}`, { detail, bubbles: true, composed: true }),
			);
		const when = <Detail>(event: string, run: (detail: Detail) => void) =>
			this.addEventListener(`chat-${event}`, (heard) => run((heard as CustomEvent<Detail>).detail));
		when("ready", () => tell("ready"));
		when("conversation", ({ id }: { id: string | null }) =>
			tell("thread.change", { threadId: threadOf(id) }),
		);
		when("answerstart", () => tell("response.start"));
		when("answerend", () => tell("response.end"));
		when("trouble", ({ message }: { message: string }) =>
			tell("error", { error: new Error(message) }),
		);
	}
}
