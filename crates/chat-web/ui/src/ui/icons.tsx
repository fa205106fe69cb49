import type { ComponentChildren } from "preact";

const svg =
	(children: ComponentChildren, fill = false) =>
	({ size = 18, class: c }: { size?: number; class?: string }) => (
		<svg
			class={c}
			width={size}
			height={size}
			viewBox="0 0 24 24"
			fill={fill ? "currentColor" : "none"}
			stroke={fill ? "none" : "currentColor"}
			stroke-width="1.75"
			stroke-linecap="round"
			stroke-linejoin="round"
			aria-hidden="true"
			focusable="false"
		>
			{children}
		</svg>
	);
export const Plus = svg(<path d="M12 5v14M5 12h14" />);
export const Search = svg(
	<>
		<circle cx="11" cy="11" r="6.5" />
		<path d="m20 20-4.2-4.2" />
	</>,
);
export const Panel = svg(
	<>
		<rect x="3.5" y="4.5" width="17" height="15" rx="3" />
		<path d="M9.5 4.5v15" />
	</>,
);
export const Menu = svg(<path d="M4 7h16M4 12h16M4 17h10" />);
export const Dots = svg(
	<>
		<circle cx="5.5" cy="12" r="1.6" />
		<circle cx="12" cy="12" r="1.6" />
		<circle cx="18.5" cy="12" r="1.6" />
	</>,
	true,
);
export const Pencil = svg(
	<>
		<path d="M4.5 19.5 5.6 15 15.8 4.8a1.9 1.9 0 0 1 2.7 0l.7.7a1.9 1.9 0 0 1 0 2.7L9 18.4z" />
		<path d="m14 6.6 3.4 3.4" />
	</>,
);
export const Trash = svg(
	<path d="M4.5 7h15M9.5 7V4.8h5V7M6.5 7l.9 12.2h9.2L17.5 7M10.2 10.7v5M13.8 10.7v5" />,
);
export const Copy = svg(
	<>
		<rect x="8.5" y="8.5" width="11" height="11" rx="2.5" />
		<path d="M15.5 8.5V7A2.5 2.5 0 0 0 13 4.5H7A2.5 2.5 0 0 0 4.5 7v6A2.5 2.5 0 0 0 7 15.5h1.5" />
	</>,
);
export const Check = svg(<path d="m5 12.5 4.5 4.5L19 7.5" />);
export const Cross = svg(<path d="m6.5 6.5 11 11M17.5 6.5l-11 11" />);
export const Redo = svg(
	<>
		<path d="M19.5 12a7.5 7.5 0 1 1-2.3-5.4" />
		<path d="M19.7 3.8v4h-4" />
	</>,
);
export const ArrowUp = svg(<path d="M12 19V5.5M6 11.2l6-6 6 6" />);
export const ArrowDown = svg(<path d="M12 5v13.5M6 12.8l6 6 6-6" />);
export const Square = svg(<rect x="6.5" y="6.5" width="11" height="11" rx="2.2" />, true);
export const Chevron = svg(<path d="m9 5.5 6.5 6.5L9 18.5" />);
export const Alert = svg(
	<>
		<path d="M12 4 2.9 19.5h18.2z" />
		<path d="M12 10v4.2M12 16.9v.1" />
	</>,
);
export const Sun = svg(
	<>
		<circle cx="12" cy="12" r="4" />
		<path d="M12 2.8v2M12 19.2v2M2.8 12h2M19.2 12h2M5.5 5.5l1.4 1.4M17.1 17.1l1.4 1.4M5.5 18.5l1.4-1.4M17.1 6.9l1.4-1.4" />
	</>,
);
export const Moon = svg(<path d="M19.8 14.3A8 8 0 0 1 9.7 4.2a8 8 0 1 0 10.1 10.1z" />);
export const Auto = svg(
	<>
		<circle cx="12" cy="12" r="8" />
		<path d="M12 4v16a8 8 0 0 0 0-16z" fill="currentColor" stroke="none" />
	</>,
);
export const Spinner = svg(<path d="M12 4a8 8 0 1 1-7.4 5" />);
export const Spark = svg(
	<path d="M12 4.5c.6 4.2 3.2 6.8 7.5 7.5-4.3.7-6.9 3.3-7.5 7.5-.6-4.2-3.2-6.8-7.5-7.5 4.3-.7 6.9-3.3 7.5-7.5z" />,
);
export const Keyboard = svg(
	<>
		<rect x="3" y="6" width="18" height="12" rx="2.6" />
		<path d="M7 10h.01M11 10h.01M15 10h.01M17.5 10h.01M7.5 14h9" />
	</>,
);
export const Download = svg(<path d="M12 4.5v10M7.6 10.4 12 14.8l4.4-4.4M5 19h14" />);
export const Clock = svg(
	<>
		<circle cx="12" cy="12" r="8" />
		<path d="M12 7.5V12l3 2" />
	</>,
);
export const Question = svg(
	<path d="M9.2 9.3a2.9 2.9 0 1 1 4.3 2.6c-.9.5-1.5 1.1-1.5 2.1M12 17.3v.1" />,
);
export const Leave = svg(
	<path d="M14 4.5H7A2.5 2.5 0 0 0 4.5 7v10A2.5 2.5 0 0 0 7 19.5h7M10 12h10M16.5 8.5 20 12l-3.5 3.5" />,
);
export const Mark = ({ size = 28 }: { size?: number }) => (
	<svg
		class="mark"
		width={size}
		height={size}
		viewBox="0 0 32 32"
		aria-hidden="true"
		focusable="false"
	>
		<rect width="32" height="32" rx="9.5" />
		<path d="M8 10.5a3 3 0 0 1 3-3h10a3 3 0 0 1 3 3v7a3 3 0 0 1-3 3h-5.5L11 24.5v-4a3 3 0 0 1-3-3z" />
		<circle cx="12.4" cy="14" r="1.45" />
		<circle cx="16" cy="14" r="1.45" />
		<circle cx="19.6" cy="14" r="1.45" />
	</svg>
);
