import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { say, tell } from "../state/notices";
import { copyText } from "./clipboard";
import { Check, Copy } from "./icons";
import { composing } from "./keys";

export function CopyButton({ text, label }: { text: () => string; label: string }) {
	const [done, setDone] = useState(false);
	const copy = async () => {
		if (!(await copyText(text()))) {
			tell("The browser does not let this page copy. Select the text and copy it by hand.", {
				tone: "error",
			});
			return;
		}
		setDone(true);
		say("Copied.");
		setTimeout(() => setDone(false), 1_600);
	};
	return (
		<button type="button" class="icon-btn" onClick={copy} aria-label={label} title={label}>
			{done ? <Check size={16} /> : <Copy size={16} />}
		</button>
	);
}

export interface MenuEntry {
	label: string;
	icon: ComponentChildren;
	danger?: boolean;
	run: () => void;
}

interface MenuProps {
	label: string;
	children: ComponentChildren;
	entries: () => MenuEntry[];
	class?: string;
}

const MARGIN = 8;

export function MenuButton({ label, children, entries, class: className = "icon-btn" }: MenuProps) {
	const id = useId();
	const menu = useRef<HTMLDivElement>(null);
	const button = useRef<HTMLButtonElement>(null);
	const [open, setOpen] = useState(false);
	// A list of thousands has a menu in each of its rows: its entries are made when they are first wanted.
	const [made, setMade] = useState(false);
	const close = () => {
		menu.current?.hidePopover();
		button.current?.focus();
	};
	const show = () => {
		const [list, by] = [menu.current!, button.current!.getBoundingClientRect()];
		list.showPopover();
		const { width, height } = list.getBoundingClientRect();
		const below = by.bottom + 6;
		list.style.left = `${Math.max(MARGIN, Math.min(by.right - width, innerWidth - width - MARGIN))}px`;
		list.style.top = `${below + height > innerHeight ? by.top - height - 6 : below}px`;
		// At once, for the event comes a task later than fast fingers.
		list.querySelector<HTMLElement>("[role=menuitem]")?.focus();
	};
	useLayoutEffect(() => {
		if (made) show();
	}, [made]);
	const toggle = () => {
		if (menu.current?.matches(":popover-open")) close();
		else if (made) show();
		else setMade(true);
	};
	const key = (event: KeyboardEvent) => {
		const items = [...menu.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
		const at = items.indexOf(document.activeElement as HTMLElement);
		const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
		if (to !== undefined) {
			event.preventDefault();
			items[(to + items.length) % items.length]?.focus();
		} else if (event.key === "Escape" || event.key === "Tab") {
			event.stopPropagation();
			close();
		}
	};
	return (
		<>
			<button
				ref={button}
				type="button"
				class={className}
				aria-label={label}
				title={label}
				aria-haspopup="menu"
				aria-expanded={open}
				aria-controls={id}
				onClick={toggle}
			>
				{children}
			</button>
			<div
				ref={menu}
				id={id}
				popover="auto"
				role="menu"
				class="menu"
				aria-label={label}
				tabIndex={-1}
				onKeyDown={key}
				onToggle={(event) => setOpen(event.newState === "open")}
			>
				{made &&
					entries().map((entry) => (
						<button
							key={entry.label}
							type="button"
							role="menuitem"
							tabIndex={-1}
							class={entry.danger ? "danger" : undefined}
							onClick={() => {
								close();
								entry.run();
							}}
						>
							{entry.icon}
							{entry.label}
						</button>
					))}
			</div>
		</>
	);
}

const TITLE_LENGTH = 200;

export function Rename({ title, save }: { title: string; save: (title: string | null) => void }) {
	const input = useRef<HTMLInputElement>(null);
	const done = useRef(false);
	useEffect(() => {
		input.current?.focus();
		input.current?.select();
	}, []);
	const end = (keep: boolean) => {
		if (done.current) return;
		done.current = true;
		save(keep ? (input.current?.value ?? null) : null);
	};
	return (
		<input
			ref={input}
			class="rename"
			dir="auto"
			defaultValue={title}
			aria-label="Name of the conversation"
			maxLength={TITLE_LENGTH}
			onBlur={() => end(true)}
			onKeyDown={(event) => {
				if (composing(event)) return;
				if (event.key === "Enter") end(true);
				if (event.key === "Escape") {
					event.stopPropagation();
					end(false);
				}
			}}
		/>
	);
}

export function Dialog({
	title,
	children,
	onClose,
}: {
	title: string;
	children: ComponentChildren;
	onClose: () => void;
}) {
	const dialog = useRef<HTMLDialogElement>(null);
	const id = useId();
	useEffect(() => dialog.current?.showModal(), []);
	return (
		<dialog
			ref={dialog}
			class="dialog"
			aria-labelledby={id}
			onClose={onClose}
			onClick={(event) => {
				if (event.target === dialog.current) dialog.current?.close();
			}}
			onKeyDown={(event) => event.stopPropagation()}
		>
			<div class="dialog-body">
				<h2 id={id}>{title}</h2>
				{children}
				<form method="dialog" class="dialog-acts">
					<button type="submit" class="btn">
						Close
					</button>
				</form>
			</div>
		</dialog>
	);
}
