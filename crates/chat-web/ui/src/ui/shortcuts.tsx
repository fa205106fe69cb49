import { signal } from "@preact/signals";
import type { ChatStore } from "../state/chat-store";
import { composerField } from "./composer";
import { Dialog } from "./dialog";
import { isComposing } from "./keyboard";

const isDialogOpen = signal(false);

export function showShortcuts() {
	isDialogOpen.value = true;
}

const SHORTCUTS: [keys: string[], action: string][] = [
	[["Enter"], "Send"],
	[["Shift", "Enter"], "New line"],
	[["Esc"], "Stop the answer, or close an open menu or dialog"],
	[["/"], "Go to the message field"],
	[["Ctrl", "K"], "Find a conversation"],
	[["Ctrl", "Shift", "O"], "New conversation"],
	[["Alt", "↑"], "Previous message"],
	[["Alt", "↓"], "Next message"],
	[["?"], "Show this list"],
];

/** The dialog that lists the keyboard shortcuts. */
export function Shortcuts() {
	if (!isDialogOpen.value) return null;
	return (
		<Dialog
			title="Keyboard shortcuts"
			onClose={() => {
				isDialogOpen.value = false;
			}}
		>
			<dl class="keys">
				{SHORTCUTS.map(([keys, action]) => (
					<div key={action}>
						<dt>
							{keys.map((key) => (
								<kbd key={key}>{key}</kbd>
							))}
						</dt>
						<dd>{action}</dd>
					</div>
				))}
			</dl>
		</Dialog>
	);
}

const isField = (target: EventTarget | null) =>
	target instanceof HTMLElement && /^(INPUT|TEXTAREA)$/.test(target.tagName);

/** Moves the focus to the message before or after the focused one. */
function moveMessageFocus(offset: -1 | 1) {
	const all = [...document.querySelectorAll<HTMLElement>(".msg")];
	const focused = all.indexOf(document.activeElement?.closest(".msg") as HTMLElement);
	const target = all[focused < 0 ? all.length - 1 : focused + offset];
	target?.focus();
	target?.scrollIntoView({ block: "nearest" });
}

/** The list of conversations, as far as the shortcuts control it. */
interface ListControl {
	open: () => void;
	/** Closes the list; returns whether it covered the page. */
	close: () => boolean;
}

/** Runs the shortcut of a key, if it has one. */
export function handleShortcut(event: KeyboardEvent, chat: ChatStore, list: ListControl) {
	if (isComposing(event)) return;
	const control = event.metaKey || event.ctrlKey;
	const key = event.key.toLowerCase();
	const run = (action: () => void) => {
		event.preventDefault();
		action();
	};
	if (control && event.shiftKey && key === "o") run(() => void chat.navigateTo(null));
	else if (control && key === "k") {
		run(list.open);
		// The list is drawn before this microtask, and the next key arrives after it.
		queueMicrotask(() => document.getElementById("find")?.focus());
	} else if (key === "escape") {
		const unfinished = chat.unfinishedTurn.peek();
		// In another field, Escape concerns that field alone.
		const isInOtherField = isField(event.target) && event.target !== composerField();
		if (!list.close() && unfinished && !isInOtherField) run(() => void chat.cancel(unfinished.id));
	} else if (event.altKey && (key === "arrowup" || key === "arrowdown"))
		run(() => moveMessageFocus(key === "arrowup" ? -1 : 1));
	else if (key === "/" && !isField(event.target)) run(() => composerField()?.focus());
	else if (key === "?" && !isField(event.target)) run(showShortcuts);
}
