import { useEffect, useMemo, useState } from "preact/hooks";
import type { Conversation } from "../api/types";
import { isEmbedded, settings, signOut, token } from "../session/session";
import { pathOf } from "../state/conversation-session";
import { useChat } from "./chat-context";
import { ConversationMenu } from "./conversation-menu";
import { ErrorBoundary } from "./error-boundary";
import { dateGroup, exactTime, initials, shortTime } from "./format";
import { IconButton } from "./icon-button";
import { Cross, Dots, Keyboard, Leave, Mark, Plus, Search } from "./icons";
import { isComposing } from "./keyboard";
import { RenameField } from "./rename-field";
import { showShortcuts } from "./shortcuts";
import { ThemeSwitch } from "./theme";

interface RowProps {
	conversation: Conversation;
	isActive: boolean;
	onSelect: () => void;
}

/** A row of the list. A row that cannot be displayed shows its title alone. */
const Row = (props: RowProps) => (
	<ErrorBoundary
		of={props.conversation}
		fallback={() => (
			<li class="row">
				<a href={pathOf(props.conversation.id)} class="row-link">
					<span class="title">{String(props.conversation.title)}</span>
				</a>
			</li>
		)}
	>
		<FullRow {...props} />
	</ErrorBoundary>
);

function FullRow({ conversation, isActive, onSelect }: RowProps) {
	const chat = useChat();
	const [isRenaming, setRenaming] = useState(false);
	const isBusy = isActive
		? chat.unfinishedTurn.value !== null
		: chat.list.busy.value.has(conversation.id);
	if (isRenaming) {
		const endRename = (title: string | null) => {
			setRenaming(false);
			if (title !== null) void chat.list.rename(conversation.id, title);
		};
		return (
			<li class={isActive ? "row active" : "row"}>
				<RenameField title={conversation.title} onEnd={endRename} />
			</li>
		);
	}
	return (
		<li class={isActive ? "row active" : "row"}>
			<a
				href={pathOf(conversation.id)}
				class="row-link"
				aria-current={isActive ? "page" : undefined}
				title={conversation.title}
				onClick={(event) => {
					if (event.metaKey || event.ctrlKey || event.shiftKey) return;
					event.preventDefault();
					onSelect();
				}}
				onDblClick={() => setRenaming(true)}
			>
				<span class="title" dir="auto">
					{conversation.title}
				</span>
				{isBusy && (
					<span class="flag run">
						<span class="sr">an answer is being written</span>
					</span>
				)}
				<time dateTime={conversation.updated_at} title={exactTime(conversation.updated_at)}>
					{shortTime(conversation.updated_at)}
				</time>
			</a>
			<ConversationMenu
				conversation={conversation}
				label={`More for ${conversation.title}`}
				class="icon-btn more"
				onRename={() => setRenaming(true)}
			>
				<Dots size={17} />
			</ConversationMenu>
		</li>
	);
}

/** Reads the whole list while a search needs it. */
function useWholeList(isNeeded: boolean) {
	const { list } = useChat();
	const hasMore = list.hasMore.value;
	useEffect(() => {
		if (isNeeded && hasMore) void list.loadAll();
	}, [isNeeded, hasMore]);
}

/** The rows that are drawn at first, and again each time the user scrolls near their end. */
const ROW_BATCH = 100;
/** The distance from the end of the rows that counts as near, in pixels. */
const NEAR_END = 400;

/** The conversations of a list by the day of their last change, at most `limit` of them. */
function byDate(conversations: readonly Conversation[], limit: number) {
	const groups = new Map<string, Conversation[]>();
	for (const conversation of conversations.slice(0, limit)) {
		const name = dateGroup(conversation.updated_at);
		const members = groups.get(name) ?? [];
		members.push(conversation);
		groups.set(name, members);
	}
	return [...groups];
}

/** The list of conversations, with search, and the controls of the page. */
export function ConversationSidebar({ onClose }: { onClose: () => void }) {
	const chat = useChat();
	const { list } = chat;
	const [query, setQuery] = useState("");
	const [rowLimit, setRowLimit] = useState(ROW_BATCH);
	const conversations = list.visible.value;
	const activeId = chat.activeConversation.value.id.value;
	const needle = query.trim().toLocaleLowerCase();
	const search = (text: string) => {
		setQuery(text);
		setRowLimit(ROW_BATCH);
	};
	useWholeList(needle !== "");
	const found = useMemo(
		() => conversations.filter(({ title }) => title.toLocaleLowerCase().includes(needle)),
		[conversations, needle],
	);
	const groups = useMemo(() => byDate(found, rowLimit), [found, rowLimit]);
	const select = (id: string | null) => {
		void chat.navigateTo(id);
		onClose();
	};
	const extendRows = (event: Event) => {
		const rows = event.currentTarget as HTMLElement;
		if (rows.scrollHeight - rows.scrollTop - rows.clientHeight > NEAR_END) return;
		const extend = () => setRowLimit(rowLimit + ROW_BATCH);
		if (rowLimit < found.length) extend();
		else if (list.hasMore.peek()) void list.loadMore().then(extend);
	};
	const name = token.value?.name ?? "";
	return (
		<nav class="side" aria-label="Conversations">
			<div class="side-top">
				<a
					class="brand"
					href={pathOf(null)}
					onClick={(event) => {
						event.preventDefault();
						select(null);
					}}
				>
					<Mark size={26} />
					<span>{settings.value?.agent_name ?? ""}</span>
				</a>
				<IconButton label="Close the list of conversations" class="only-narrow" onClick={onClose}>
					<Cross />
				</IconButton>
			</div>
			<button type="button" class="new" onClick={() => select(null)}>
				<Plus size={17} /> New chat
			</button>
			<label class="find">
				<span class="sr">Find a conversation</span>
				<Search size={16} />
				<input
					id="find"
					type="search"
					placeholder="Find a chat"
					value={query}
					onInput={(event) => search(event.currentTarget.value)}
					onKeyDown={(event) => {
						if (event.key !== "Escape" || query === "" || isComposing(event)) return;
						// The Escape that ends a search must not also stop the answer.
						event.stopPropagation();
						search("");
					}}
				/>
			</label>
			<div class="rows" onScroll={extendRows}>
				{list.trouble.value && (
					<div class="state small" role="alert">
						<p>{list.trouble.value}</p>
						<button type="button" class="btn" onClick={() => void list.load()}>
							Try again
						</button>
					</div>
				)}
				{groups.map(([title, members]) => (
					<section key={title} aria-label={title}>
						<h2>{title}</h2>
						<ul>
							{members.map((conversation) => (
								<Row
									key={conversation.id}
									conversation={conversation}
									isActive={conversation.id === activeId}
									onSelect={() => select(conversation.id)}
								/>
							))}
						</ul>
					</section>
				))}
				{groups.length === 0 && list.isLoaded.value && (
					<p class="faint none" role="status">
						{needle
							? list.hasMore.value
								? "Searching…"
								: `No conversation is called “${query.trim()}”.`
							: "Your conversations will appear here."}
					</p>
				)}
			</div>
			<div class="side-foot">
				<span class="avatar" aria-hidden="true">
					{initials(name)}
				</span>
				<span class="me" dir="auto">
					{name}
				</span>
				<IconButton
					label="Keyboard shortcuts"
					title="Keyboard shortcuts (?)"
					class="only-wide"
					onClick={showShortcuts}
				>
					<Keyboard size={17} />
				</IconButton>
				<ThemeSwitch />
				{!isEmbedded && (
					<IconButton label="Sign out" onClick={signOut}>
						<Leave size={17} />
					</IconButton>
				)}
			</div>
		</nav>
	);
}
