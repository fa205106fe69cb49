import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

/** A modal dialog, open from the start. */
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
				<form method="dialog" class="dialog-actions">
					<button type="submit" class="btn">
						Close
					</button>
				</form>
			</div>
		</dialog>
	);
}
