import { useEffect, useRef, useState } from "preact/hooks";
import { isEmbedded, isStarting, startSession, startTrouble, token } from "../session/session";
import { announcement } from "../state/notices";
import { useChat } from "./chat-context";
import { composerField } from "./composer";
import { ConversationSidebar } from "./conversation-sidebar";
import { ErrorBoundary } from "./error-boundary";
import { HeaderBar } from "./header-bar";
import { Alert, Plus, Redo } from "./icons";
import { handleShortcut, Shortcuts } from "./shortcuts";
import { SignIn } from "./sign-in";
import { ThreadView } from "./thread";
import { Toasts } from "./toasts";

const NARROW = "(max-width: 760px)";

/** Replaces a conversation that cannot be displayed. */
function BrokenConversation({ onRetry }: { onRetry: () => void }) {
	const chat = useChat();
	return (
		<div class="state" role="alert">
			<Alert size={22} />
			<p>This conversation could not be displayed. Nothing is lost.</p>
			<button type="button" class="btn" onClick={onRetry}>
				<Redo size={16} /> Try again
			</button>
			<button type="button" class="btn" onClick={() => void chat.navigateTo(null)}>
				<Plus size={16} /> New conversation
			</button>
		</div>
	);
}

const BrokenSidebar = ({ onRetry }: { onRetry: () => void }) => (
	<nav class="side" aria-label="Conversations">
		<div class="state small" role="alert">
			<p>The list of conversations could not be displayed.</p>
			<button type="button" class="btn" onClick={onRetry}>
				Try again
			</button>
		</div>
	</nav>
);

/** In a narrow embedded page, the list would leave no room for the conversation. */
const hasRoomForSidebar = () => !isEmbedded || innerWidth > 900;

function Chat() {
	const chat = useChat();
	const [isDrawerOpen, setDrawerOpen] = useState(false);
	const [isSidebarOpen, setSidebarOpen] = useState(hasRoomForSidebar);
	useEffect(() => {
		const list = {
			open: () => {
				setDrawerOpen(true);
				setSidebarOpen(true);
			},
			close: () => {
				setDrawerOpen(false);
				return isDrawerOpen;
			},
		};
		const handleKey = (event: KeyboardEvent) => handleShortcut(event, chat, list);
		addEventListener("keydown", handleKey);
		return () => removeEventListener("keydown", handleKey);
	}, [isDrawerOpen]);
	return (
		<div
			class={`app${isDrawerOpen ? " drawer" : ""}${isSidebarOpen ? "" : " folded"}`}
			inert={token.value === null}
		>
			<button type="button" class="skip" onClick={() => composerField()?.focus()}>
				Go to the message field
			</button>
			<ErrorBoundary of={null} fallback={(retry) => <BrokenSidebar onRetry={retry} />}>
				<ConversationSidebar onClose={() => setDrawerOpen(false)} />
			</ErrorBoundary>
			<button
				type="button"
				class="scrim"
				tabIndex={-1}
				aria-hidden="true"
				onClick={() => setDrawerOpen(false)}
			/>
			<main class="main" inert={isDrawerOpen && matchMedia(NARROW).matches}>
				<HeaderBar
					isDrawerOpen={isDrawerOpen}
					isSidebarOpen={isSidebarOpen}
					onOpenDrawer={() => setDrawerOpen(true)}
					onToggleSidebar={() => setSidebarOpen(!isSidebarOpen)}
				/>
				<ErrorBoundary
					of={chat.activeConversation.value}
					fallback={(retry) => <BrokenConversation onRetry={retry} />}
				>
					<ThreadView />
				</ErrorBoundary>
			</main>
			<Shortcuts />
			<div class="sr" role="status" aria-live="polite">
				{announcement.value}
			</div>
			<Toasts />
		</div>
	);
}

const BrokenPage = () => (
	<main class="state whole">
		<Alert size={22} />
		<p role="alert">This page failed. Your messages and drafts are kept.</p>
		<button type="button" class="btn" onClick={() => location.reload()}>
			<Redo size={16} /> Reload the page
		</button>
	</main>
);

export const App = () => (
	<ErrorBoundary of={null} fallback={() => <BrokenPage />}>
		<Page />
	</ErrorBoundary>
);

function Page() {
	/** After a sign-in has expired, the chat stays behind the sign-in form. */
	const wasSignedIn = useRef(false);
	wasSignedIn.current ||= token.value !== null;
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
	if (isStarting.value) {
		return (
			<p class="sr" role="status">
				Loading
			</p>
		);
	}
	return (
		<>
			{wasSignedIn.current && <Chat />}
			{token.value === null && <SignIn />}
		</>
	);
}
