/** Copies a text by the old command, which also works on pages over plain HTTP; whether it did. */
function copyByCommand(text: string): boolean {
	const focused = document.activeElement;
	const selection = getSelection();
	const selected = selection && selection.rangeCount > 0 ? selection.getRangeAt(0) : null;
	const area = document.createElement("textarea");
	area.value = text;
	area.className = "sr";
	area.readOnly = true;
	area.setAttribute("aria-hidden", "true");
	document.body.append(area);
	let copied = false;
	// Says what is copied itself: a text area would change the ends of lines.
	const fill = (event: ClipboardEvent) => {
		event.clipboardData?.setData("text/plain", text);
		event.preventDefault();
		event.stopImmediatePropagation();
		copied = event.clipboardData !== null;
	};
	document.addEventListener("copy", fill, true);
	try {
		area.focus({ preventScroll: true });
		area.select();
		return document.execCommand("copy") && copied;
	} catch {
		return false;
	} finally {
		document.removeEventListener("copy", fill, true);
		area.remove();
		if (selected) {
			selection?.removeAllRanges();
			selection?.addRange(selected);
		}
		if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
	}
}

/** Copies a text; whether the browser let it. */
export async function copyText(text: string): Promise<boolean> {
	try {
		// Only pages over HTTPS, and those of this computer, have a clipboard.
		if (navigator.clipboard) {
			await navigator.clipboard.writeText(text);
			return true;
		}
	} catch {
		// Not allowed here, or the page has lost the focus: the command may be.
	}
	return copyByCommand(text);
}
