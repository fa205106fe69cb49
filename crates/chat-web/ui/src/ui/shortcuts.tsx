import { signal } from "@preact/signals";
import { cancel, go, running } from "../state/conversation";
import { Dialog } from "./bits";
import { field } from "./composer";
import { composing } from "./keys";

const open = signal(false);

export function showShortcuts() {
	open.value = true;
}

const SHORTCUTS: [keys: string[], what: string][] = [
	[["Enter"], "Send"],
	[["Shift", "Enter"], "New line"],
	[["Esc"], "Stop the answer, or close what is open"],
	[["/"], "Go to the message field"],
	[["Ctrl", "K"], "Find a conversation"],
	[["Ctrl", "Shift", "O"], "New conversation"],
	[["Alt", "↑"], "Message before"],
	[["Alt", "↓"], "Message after"],
	[["?"], "This list"],
];

export function Shortcuts() {
	if (!open.value) return null;
	return (
		<Dialog
			title="Keyboard shortcuts"
			onClose={() => {
				open.value = false;
			}}
		>
			<dl class="keys">
				{SHORTCUTS.map(([keys, what]) => (
					<div key={what}>
						<dt>
							{keys.map((key) => (
								<kbd key={key}>{key}</kbd>
							))}
						</dt>
						<dd>{what}</dd>
					</div>
				))}
			</dl>
		</Dialog>
	);
}

const isField = (target: EventTarget | null) =>
	target instanceof HTMLElement && /^(INPUT|TEXTAREA)$/.test(target.tagName);

function step(by: number) {
	const all = [...document.querySelectorAll<HTMLElement>(".msg")];
	const at = all.indexOf(document.activeElement?.closest(".msg") as HTMLElement);
	const to = all[at < 0 ? all.length - 1 : at + by];
	to?.focus();
	to?.scrollIntoView({ block: "nearest" });
}

/** What the keys do; `list` shows or hides the list of conversations. */
export function onKey(event: KeyboardEvent, list: { open: () => void; close: () => boolean }) {
	if (composing(event)) return;
	const control = event.metaKey || event.ctrlKey;
	const key = event.key.toLowerCase();
	const act = (run: () => void) => {
		event.preventDefault();
		run();
	};
	if (control && event.shiftKey && key === "o") act(() => go(null));
	else if (control && key === "k") {
		act(list.open);
		// Once the list is there, and before the next key.
		queueMicrotask(() => document.getElementById("find")?.focus());
	} else if (key === "escape") {
		const run = running.peek();
		// In another field, Escape is about that field.
		const elsewhere = isField(event.target) && event.target !== field();
		if (!list.close() && run && !elsewhere) act(() => void cancel(run.id));
	} else if (event.altKey && (key === "arrowup" || key === "arrowdown"))
		act(() => step(key === "arrowup" ? -1 : 1));
	else if (key === "/" && !isField(event.target)) act(() => field()?.focus());
	else if (key === "?" && !isField(event.target)) act(showShortcuts);
}
