import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { ChatStore } from "../state/chat-store";

export const ChatContext = createContext<ChatStore | null>(null);

/** The chat that the page shows. */
export function useChat(): ChatStore {
	const chat = useContext(ChatContext);
	if (!chat) throw new Error("there is no ChatContext around this component");
	return chat;
}
