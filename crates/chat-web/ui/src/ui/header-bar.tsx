import { useEffect, useState } from "preact/hooks";
import { agentName } from "../session/session";
import { useChat } from "./chat-context";
import { ConversationMenu } from "./conversation-menu";
import { IconButton } from "./icon-button";
import { Dots, Menu, Panel, Plus } from "./icons";
import { RenameField } from "./rename-field";

interface HeaderBarProps {
	isDrawerOpen: boolean;
	isSidebarOpen: boolean;
	onOpenDrawer: () => void;
	onToggleSidebar: () => void;
}

/** The bar above the conversation: its title, its menu and the buttons for the list. */
export function HeaderBar({
	isDrawerOpen,
	isSidebarOpen,
	onOpenDrawer,
	onToggleSidebar,
}: HeaderBarProps) {
	const chat = useChat();
	const [isRenaming, setRenaming] = useState(false);
	const conversation = chat.activeEntry.value;
	const isNew = chat.activeConversation.value.id.value === null;
	const title = conversation?.title ?? (isNew ? "New chat" : "");
	useEffect(() => {
		const name = agentName();
		document.title = title ? `${title} · ${name}` : name || "Chat";
	}, [title]);
	return (
		<header class="bar">
			<IconButton
				label="Show the list of conversations"
				class="only-narrow"
				expanded={isDrawerOpen}
				onClick={onOpenDrawer}
			>
				<Menu />
			</IconButton>
			<IconButton
				label={isSidebarOpen ? "Hide the list of conversations" : "Show the list of conversations"}
				class="only-wide"
				expanded={isSidebarOpen}
				onClick={onToggleSidebar}
			>
				<Panel />
			</IconButton>
			{isRenaming && conversation ? (
				<>
					<h1 class="sr">{title}</h1>
					<RenameField
						title={title}
						onEnd={(wanted) => {
							setRenaming(false);
							if (wanted !== null) void chat.list.rename(conversation.id, wanted);
						}}
					/>
				</>
			) : (
				<h1 dir="auto">{title}</h1>
			)}
			{conversation && (
				<ConversationMenu
					conversation={conversation}
					label="More for this conversation"
					onRename={() => setRenaming(true)}
				>
					<Dots />
				</ConversationMenu>
			)}
			<IconButton
				label="New chat"
				title="New chat (Ctrl+Shift+O)"
				class="only-narrow"
				onClick={() => void chat.navigateTo(null)}
			>
				<Plus />
			</IconButton>
		</header>
	);
}
