import type { ComponentChildren } from "preact";

interface IconButtonProps {
	label: string;
	/** The tooltip, where it is not the label. */
	title?: string;
	class?: string;
	disabled?: boolean;
	expanded?: boolean;
	onClick: () => void;
	children: ComponentChildren;
}

/** A button that shows an icon alone. */
export function IconButton({
	label,
	title = label,
	class: className,
	disabled,
	expanded,
	onClick,
	children,
}: IconButtonProps) {
	return (
		<button
			type="button"
			class={className ? `icon-btn ${className}` : "icon-btn"}
			aria-label={label}
			aria-expanded={expanded}
			title={title}
			disabled={disabled}
			onClick={onClick}
		>
			{children}
		</button>
	);
}
