/** Copies a text by `execCommand`, which also works over plain HTTP. Returns whether it did. */
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
	// The handler provides the text because a text area changes the ends of lines.
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

/** Copies a text. Returns whether the browser allowed it. */
export async function copyText(text: string): Promise<boolean> {
	try {
		// Only pages over HTTPS and on localhost have a clipboard.
		if (navigator.clipboard) {
			await navigator.clipboard.writeText(text);
			return true;
		}
	} catch {
		// Denied, or the page has lost the focus: the command may still be allowed.
	}
	return copyByCommand(text);
}
