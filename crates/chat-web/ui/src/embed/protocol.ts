/** The messages between the script on the embedding page and the chat page in its frame. */

export const HELLO = "chat-panel:hello";
export const CONNECT = "chat-panel:connect";

/** The methods of the panel. */
export interface Methods {
	setToken: (token: string | null) => void;
	setTheme: (theme: string) => void;
	setHue: (hue: number) => void;
	openConversation: (id: string | null) => void;
	sendMessage: (text: string) => void;
	setDraft: (text: string) => void;
	focusComposer: () => void;
}

/** The events of the panel. */
export interface Events {
	ready: Record<string, never>;
	tokenneeded: Record<string, never>;
	conversation: { id: string | null };
	answerstart: { conversation: string | null; turn: string };
	answerend: { conversation: string | null; turn: string; status: string };
	trouble: { message: string };
}

export interface Call {
	id: number;
	method: keyof Methods;
	argument: unknown;
}

export type FromPanel =
	| { event: keyof Events; detail: Events[keyof Events] }
	| { reply: number; error?: string | undefined };
