import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";

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
	class?: string | undefined;
}

/** The distance from the edges of the window and from the button, in pixels. */
const MARGIN = 8;
const GAP = 6;

/** A button that opens a menu of actions. */
export function MenuButton({ label, children, entries, class: className = "icon-btn" }: MenuProps) {
	const id = useId();
	const menu = useRef<HTMLDivElement>(null);
	const button = useRef<HTMLButtonElement>(null);
	const [isOpen, setOpen] = useState(false);
	// A long list has a menu in each row, so entries are created when a menu is first opened.
	const [hasEntries, setHasEntries] = useState(false);
	const close = () => {
		menu.current?.hidePopover();
		button.current?.focus();
	};
	const show = () => {
		const [list, anchor] = [menu.current!, button.current!.getBoundingClientRect()];
		list.showPopover();
		const { width, height } = list.getBoundingClientRect();
		const below = anchor.bottom + GAP;
		list.style.left = `${Math.max(MARGIN, Math.min(anchor.right - width, innerWidth - width - MARGIN))}px`;
		list.style.top = `${below + height > innerHeight ? anchor.top - height - GAP : below}px`;
		// The toggle event would set the focus too late for a user who types fast.
		list.querySelector<HTMLElement>("[role=menuitem]")?.focus();
	};
	useLayoutEffect(() => {
		if (hasEntries) show();
	}, [hasEntries]);
	const toggle = () => {
		if (menu.current?.matches(":popover-open")) close();
		else if (hasEntries) show();
		else setHasEntries(true);
	};
	const handleKey = (event: KeyboardEvent) => {
		const items = [...menu.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
		const focused = items.indexOf(document.activeElement as HTMLElement);
		const target = { ArrowDown: focused + 1, ArrowUp: focused - 1, Home: 0, End: items.length - 1 }[
			event.key
		];
		if (target !== undefined) {
			event.preventDefault();
			items[(target + items.length) % items.length]?.focus();
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
				aria-expanded={isOpen}
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
				onKeyDown={handleKey}
				onToggle={(event) => setOpen(event.newState === "open")}
			>
				{hasEntries &&
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
