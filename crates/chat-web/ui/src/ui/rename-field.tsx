import { useEffect, useRef } from "preact/hooks";
import { isComposing } from "./keyboard";

/** The server's limit for titles, in characters. */
const MAX_TITLE_LENGTH = 200;

/** A field for the title of a conversation. `onEnd` gets `null` when the user cancels. */
export function RenameField({
	title,
	onEnd,
}: {
	title: string;
	onEnd: (title: string | null) => void;
}) {
	const input = useRef<HTMLInputElement>(null);
	const hasEnded = useRef(false);
	useEffect(() => {
		input.current?.focus();
		input.current?.select();
	}, []);
	const end = (wanted: string | null) => {
		if (hasEnded.current) return;
		hasEnded.current = true;
		onEnd(wanted);
	};
	const submit = () => end(input.current?.value ?? null);
	return (
		<input
			ref={input}
			class="rename"
			dir="auto"
			defaultValue={title}
			aria-label="Name of the conversation"
			maxLength={MAX_TITLE_LENGTH}
			onBlur={submit}
			onKeyDown={(event) => {
				if (isComposing(event)) return;
				if (event.key === "Enter") submit();
				if (event.key === "Escape") {
					event.stopPropagation();
					end(null);
				}
			}}
		/>
	);
}
