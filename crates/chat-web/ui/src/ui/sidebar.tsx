import { useEffect, useMemo, useState } from "preact/hooks";
import type { Conversation } from "../api/types";
import { embedded, settings, signOut, token } from "../session/session";
import { go, open, pathOf, remove, running } from "../state/conversation";
import {
	busy,
	hasMore,
	listed,
	listTrouble,
	loadList,
	loadMore,
	loadRest,
	rename,
	shown,
} from "../state/list";
import { MenuButton, Rename } from "./bits";
import { Boundary } from "./boundary";
import { download } from "./export";
import { exact, group, initials, short } from "./format";
import { Cross, Dots, Download, Keyboard, Leave, Mark, Pencil, Plus, Search, Trash } from "./icons";
import { composing } from "./keys";
import { showShortcuts } from "./shortcuts";
import { ThemeSwitch } from "./theme";

export const entries = (conversation: Conversation, edit: () => void) => [
	{ label: "Rename", icon: <Pencil size={16} />, run: edit },
	{
		label: "Export as Markdown",
		icon: <Download size={16} />,
		run: () => void download(conversation, "markdown"),
	},
	{
		label: "Export as JSON",
		icon: <Download size={16} />,
		run: () => void download(conversation, "json"),
	},
	{ label: "Delete", icon: <Trash size={16} />, danger: true, run: () => remove(conversation.id) },
];

interface RowProps {
	conversation: Conversation;
	active: boolean;
	pick: () => void;
}

/** A row of the list; one that cannot be shown is at least its title. */
const Row = (props: RowProps) => (
	<Boundary
		of={props.conversation}
		fallback={() => (
			<li class="row">
				<a href={pathOf(props.conversation.id)} class="pick">
					<span class="title">{String(props.conversation.title)}</span>
				</a>
			</li>
		)}
	>
		<WholeRow {...props} />
	</Boundary>
);

function WholeRow({ conversation, active, pick }: RowProps) {
	const [edit, setEdit] = useState(false);
	const runs = active ? running.value !== null : busy.value.has(conversation.id);
	if (edit) {
		const save = (title: string | null) => {
			setEdit(false);
			if (title !== null) void rename(conversation.id, title);
		};
		return (
			<li class={active ? "row active" : "row"}>
				<Rename title={conversation.title} save={save} />
			</li>
		);
	}
	return (
		<li class={active ? "row active" : "row"}>
			<a
				href={pathOf(conversation.id)}
				class="pick"
				aria-current={active ? "page" : undefined}
				title={conversation.title}
				onClick={(event) => {
					if (event.metaKey || event.ctrlKey || event.shiftKey) return;
					event.preventDefault();
					pick();
				}}
				onDblClick={() => setEdit(true)}
			>
				<span class="title" dir="auto">
					{conversation.title}
				</span>
				{runs && (
					<span class="flag run">
						<span class="sr">an answer is being written</span>
					</span>
				)}
				<time dateTime={conversation.updated_at} title={exact(conversation.updated_at)}>
					{short(conversation.updated_at)}
				</time>
			</a>
			<MenuButton
				label={`More for ${conversation.title}`}
				class="icon-btn more"
				entries={() => entries(conversation, () => setEdit(true))}
			>
				<Dots size={17} />
			</MenuButton>
		</li>
	);
}

/** What is looked for may stand anywhere: the list is read to its end. */
function useWholeList(wanted: boolean) {
	const more = hasMore.value;
	useEffect(() => {
		if (wanted && more) void loadRest();
	}, [wanted, more]);
}

/** So many rows are made, and as many more each time when the reader comes near their end. */
const ROWS = 100;

export function Sidebar({ onClose }: { onClose: () => void }) {
	const [words, setWords] = useState("");
	const [most, setMost] = useState(ROWS);
	const list = shown.value;
	const active = open.value.id.value;
	const needle = words.trim().toLocaleLowerCase();
	const find = (text: string) => {
		setWords(text);
		setMost(ROWS);
	};
	useWholeList(needle !== "");
	const found = useMemo(
		() => list.filter(({ title }) => title.toLocaleLowerCase().includes(needle)),
		[list, needle],
	);
	const groups = useMemo(() => {
		const named = new Map<string, Conversation[]>();
		for (const conversation of found.slice(0, most)) {
			const name = group(conversation.updated_at);
			const members = named.get(name) ?? [];
			members.push(conversation);
			named.set(name, members);
		}
		return [...named];
	}, [found, most]);
	const pick = (id: string | null) => {
		go(id);
		onClose();
	};
	const nearEnd = (event: Event) => {
		const rows = event.currentTarget as HTMLElement;
		if (rows.scrollHeight - rows.scrollTop - rows.clientHeight > 400) return;
		if (most < found.length) setMost(most + ROWS);
		else if (hasMore.peek()) void loadMore().then(() => setMost(most + ROWS));
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
						pick(null);
					}}
				>
					<Mark size={26} />
					<span>{settings.value?.agent_name ?? ""}</span>
				</a>
				<button
					type="button"
					class="icon-btn only-narrow"
					aria-label="Close the list of conversations"
					onClick={onClose}
				>
					<Cross />
				</button>
			</div>
			<button type="button" class="new" onClick={() => pick(null)}>
				<Plus size={17} /> New chat
			</button>
			<label class="find">
				<span class="sr">Find a conversation</span>
				<Search size={16} />
				<input
					id="find"
					type="search"
					placeholder="Find a chat"
					value={words}
					onInput={(event) => find(event.currentTarget.value)}
					onKeyDown={(event) => {
						if (event.key !== "Escape" || words === "" || composing(event)) return;
						// Gives up looking, and stops nothing else.
						event.stopPropagation();
						find("");
					}}
				/>
			</label>
			<div class="rows" onScroll={nearEnd}>
				{listTrouble.value && (
					<div class="state small" role="alert">
						<p>{listTrouble.value}</p>
						<button type="button" class="btn" onClick={() => void loadList()}>
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
									active={conversation.id === active}
									pick={() => pick(conversation.id)}
								/>
							))}
						</ul>
					</section>
				))}
				{groups.length === 0 && listed.value && (
					<p class="faint none" role="status">
						{needle
							? hasMore.value
								? "Looking…"
								: `No conversation is called “${words.trim()}”.`
							: "Your conversations will show here."}
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
				<button
					type="button"
					class="icon-btn only-wide"
					aria-label="Keyboard shortcuts"
					title="Keyboard shortcuts (?)"
					onClick={showShortcuts}
				>
					<Keyboard size={17} />
				</button>
				<ThemeSwitch />
				{!embedded && (
					<button
						type="button"
						class="icon-btn"
						aria-label="Sign out"
						title="Sign out"
						onClick={signOut}
					>
						<Leave size={17} />
					</button>
				)}
			</div>
		</nav>
	);
}
