import { useEffect, useState } from "preact/hooks";
import {
	embedded,
	settings,
	starting,
	startSession,
	startTrouble,
	token,
} from "../session/session";
import { current, go, open } from "../state/conversation";
import { rename } from "../state/list";
import { announcement, dismiss, type Notice, notices } from "../state/notices";
import { MenuButton, Rename } from "./bits";
import { Boundary } from "./boundary";
import { field } from "./composer";
import { Alert, Cross, Dots, Menu, Panel, Plus, Redo } from "./icons";
import { onKey, Shortcuts } from "./shortcuts";
import { entries, Sidebar } from "./sidebar";
import { SignIn } from "./sign-in";
import { ThreadView } from "./thread";

const NARROW = "(max-width: 760px)";

function Toast({ notice }: { notice: Notice }) {
	return (
		<div class={`toast ${notice.tone}`} role={notice.tone === "error" ? "alert" : "status"}>
			<span title={notice.text}>{notice.text}</span>
			{notice.action && (
				<button
					type="button"
					class="toast-act"
					onClick={() => {
						notice.action?.run();
						dismiss(notice.id);
					}}
				>
					{notice.action.label}
				</button>
			)}
			<button
				type="button"
				class="icon-btn"
				aria-label="Dismiss"
				onClick={() => dismiss(notice.id)}
			>
				<Cross size={15} />
			</button>
		</div>
	);
}

const Toasts = () => (
	<div class="toasts">
		{notices.value.map((notice) => (
			<Toast key={notice.id} notice={notice} />
		))}
	</div>
);

function Bar({
	drawer,
	wide,
	toggle,
}: {
	drawer: boolean;
	wide: boolean;
	toggle: { drawer: () => void; wide: () => void };
}) {
	const [edit, setEdit] = useState(false);
	const conversation = current.value;
	const title = conversation?.title ?? (open.value.id.value ? "" : "New chat");
	useEffect(() => {
		document.title = title
			? `${title} · ${settings.peek()?.agent_name ?? ""}`
			: (settings.peek()?.agent_name ?? "Chat");
	}, [title]);
	return (
		<header class="bar">
			<button
				type="button"
				class="icon-btn only-narrow"
				aria-label="Show the list of conversations"
				aria-expanded={drawer}
				onClick={toggle.drawer}
			>
				<Menu />
			</button>
			<button
				type="button"
				class="icon-btn only-wide"
				aria-label={wide ? "Hide the list of conversations" : "Show the list of conversations"}
				aria-expanded={wide}
				onClick={toggle.wide}
			>
				<Panel />
			</button>
			{edit && conversation ? (
				<>
					<h1 class="sr">{title}</h1>
					<Rename
						title={title}
						save={(wanted) => {
							setEdit(false);
							if (wanted !== null) void rename(conversation.id, wanted);
						}}
					/>
				</>
			) : (
				<h1 dir="auto">{title}</h1>
			)}
			{conversation && (
				<MenuButton
					label="More for this conversation"
					entries={() => entries(conversation, () => setEdit(true))}
				>
					<Dots />
				</MenuButton>
			)}
			<button
				type="button"
				class="icon-btn only-narrow"
				aria-label="New chat"
				title="New chat (Ctrl+Shift+O)"
				onClick={() => go(null)}
			>
				<Plus />
			</button>
		</header>
	);
}

/** In the place of a conversation that cannot be shown. */
const Broken = ({ again }: { again: () => void }) => (
	<div class="state" role="alert">
		<Alert size={22} />
		<p>This conversation could not be shown. Nothing of it is lost.</p>
		<button type="button" class="btn" onClick={again}>
			<Redo size={16} /> Try again
		</button>
		<button type="button" class="btn" onClick={() => go(null)}>
			<Plus size={16} /> New conversation
		</button>
	</div>
);

const BrokenList = ({ again }: { again: () => void }) => (
	<nav class="side" aria-label="Conversations">
		<div class="state small" role="alert">
			<p>The list of conversations could not be shown.</p>
			<button type="button" class="btn" onClick={again}>
				Try again
			</button>
		</div>
	</nav>
);

/** An embedded page is narrow: its list is a drawer, and open from the start only where there is room. */
const roomy = !embedded || innerWidth > 900;

function Chat() {
	const [drawer, setDrawer] = useState(false);
	const [wide, setWide] = useState(roomy);
	const toList = () => {
		setDrawer(true);
		setWide(true);
	};
	useEffect(() => {
		const close = () => {
			setDrawer(false);
			return drawer;
		};
		const key = (event: KeyboardEvent) => onKey(event, { open: toList, close });
		addEventListener("keydown", key);
		return () => removeEventListener("keydown", key);
	}, [drawer]);
	return (
		<div
			class={`app${drawer ? " drawer" : ""}${wide ? "" : " folded"}`}
			inert={token.value === null}
		>
			<button type="button" class="skip" onClick={() => field()?.focus()}>
				Go to the message field
			</button>
			<Boundary of={null} fallback={(again) => <BrokenList again={again} />}>
				<Sidebar onClose={() => setDrawer(false)} />
			</Boundary>
			<button
				type="button"
				class="scrim"
				tabIndex={-1}
				aria-hidden="true"
				onClick={() => setDrawer(false)}
			/>
			<main class="main" inert={drawer && matchMedia(NARROW).matches}>
				<Bar
					drawer={drawer}
					wide={wide}
					toggle={{ drawer: () => setDrawer(true), wide: () => setWide(!wide) }}
				/>
				<Boundary of={open.value} fallback={(again) => <Broken again={again} />}>
					<ThreadView />
				</Boundary>
			</main>
			<Shortcuts />
			<div class="sr" role="status" aria-live="polite">
				{announcement.value}
			</div>
			<Toasts />
		</div>
	);
}

/** Whether somebody was signed in once: then the page stays behind the question who is there. */
let began = false;

export function App() {
	const whole = () => (
		<main class="state whole">
			<Alert size={22} />
			<p role="alert">This page failed. What you have written and sent is kept.</p>
			<button type="button" class="btn" onClick={() => location.reload()}>
				<Redo size={16} /> Load it again
			</button>
		</main>
	);
	return (
		<Boundary of={null} fallback={whole}>
			<Page />
		</Boundary>
	);
}

function Page() {
	if (startTrouble.value) {
		return (
			<main class="state whole">
				<Alert size={22} />
				<p role="alert">{startTrouble.value}</p>
				<button type="button" class="btn" onClick={() => void startSession()}>
					<Redo size={16} /> Try again
				</button>
			</main>
		);
	}
	if (starting.value) {
		return (
			<p class="sr" role="status">
				Loading
			</p>
		);
	}
	began ||= token.value !== null;
	return (
		<>
			{began && <Chat />}
			{token.value === null && <SignIn />}
		</>
	);
}
