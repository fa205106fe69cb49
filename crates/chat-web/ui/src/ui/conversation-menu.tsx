import type { ComponentChildren } from "preact";
import type { Conversation } from "../api/types";
import { useChat } from "./chat-context";
import { exportConversation } from "./export";
import { Download, Pencil, Trash } from "./icons";
import { MenuButton } from "./menu-button";

interface ConversationMenuProps {
	conversation: Conversation;
	label: string;
	class?: string | undefined;
	onRename: () => void;
	children: ComponentChildren;
}

/** A button that opens the menu of a conversation. */
export function ConversationMenu({
	conversation,
	label,
	class: className,
	onRename,
	children,
}: ConversationMenuProps) {
	const chat = useChat();
	const exportAs = (format: "markdown" | "json") => () =>
		void exportConversation(conversation, format);
	const entries = () => [
		{ label: "Rename", icon: <Pencil size={16} />, run: onRename },
		{
			label: "Export as Markdown",
			icon: <Download size={16} />,
			run: exportAs("markdown"),
		},
		{ label: "Export as JSON", icon: <Download size={16} />, run: exportAs("json") },
		{
			label: "Delete",
			icon: <Trash size={16} />,
			danger: true,
			run: () => chat.delete(conversation.id),
		},
	];
	return (
		<MenuButton label={label} class={className} entries={entries}>
			{children}
		</MenuButton>
	);
}
