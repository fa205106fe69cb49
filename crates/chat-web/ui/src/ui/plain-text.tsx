/** A text without formatting, and a note that says why. */
export function PlainText({ text, note }: { text: string; note: string }) {
	return (
		<div class="md">
			<p class="plain" dir="auto">
				{String(text)}
			</p>
			<p class="note">{note}</p>
		</div>
	);
}
