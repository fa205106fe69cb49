import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { settings } from "../session/session";
import { useChat } from "./chat-context";
import { ArrowUp, Square } from "./icons";
import { isComposing, isTouchDevice } from "./keyboard";

/** The greatest height of the field, in pixels. */
const MAX_HEIGHT = 240;
/** The share of the length limit from which the remaining characters are shown. */
const COUNT_FROM = 0.8;

export const composerField = () =>
	document.getElementById("composer") as HTMLTextAreaElement | null;

/** The length of a text as the server counts it: in Unicode scalar values. */
const scalarCount = (text: string) => [...text].length;

export function Composer() {
	const chat = useChat();
	const { drafts } = chat;
	const active = chat.activeConversation.value;
	const conversation = active.id.value;
	const draftRevision = drafts.revision.value;
	const [text, setText] = useState("");
	const field = useRef<HTMLTextAreaElement>(null);
	// A layout effect runs before the user can type, which would replace the draft.
	useLayoutEffect(
		() => setText(drafts.draftOf(conversation)?.text ?? ""),
		[conversation, active, draftRevision],
	);
	useEffect(() => {
		if (matchMedia("(pointer: fine)").matches) field.current?.focus({ preventScroll: true });
	}, [active]);
	useLayoutEffect(() => {
		const area = field.current;
		if (!area) return;
		area.style.height = "auto";
		area.style.height = `${Math.min(area.scrollHeight, MAX_HEIGHT)}px`;
	}, [text]);
	const name = settings.value?.agent_name ?? "";
	const limit = settings.value?.message_limit ?? Number.POSITIVE_INFINITY;
	const count = text.length > limit * COUNT_FROM ? scalarCount(text) : 0;
	const isSending = active.sending.value !== null;
	const canSend = text.trim() !== "" && !isSending && count <= limit;
	const unfinished = chat.unfinishedTurn.value;
	const write = (next: string) => {
		setText(next);
		drafts.save(conversation, next);
	};
	const isSubmitPending = useRef(false);
	const submit = () => {
		isSubmitPending.current = isSending;
		if (!canSend) return;
		setText("");
		void active.send(text);
	};
	// A message that was submitted while another was being sent follows it. If the other one was
	// not sent, the draft starts with that message, and the user has to submit again.
	useLayoutEffect(() => {
		if (isSending) return;
		if (isSubmitPending.current && drafts.draftOf(conversation)?.text === text) submit();
		isSubmitPending.current = false;
	}, [isSending]);
	return (
		<form
			class="composer"
			onSubmit={(event) => {
				event.preventDefault();
				submit();
			}}
		>
			<label class="sr" for="composer">
				Message to {name}
			</label>
			<textarea
				id="composer"
				ref={field}
				rows={1}
				dir="auto"
				value={text}
				placeholder={unfinished ? "Write the next message" : `Message ${name}`}
				enterkeyhint={isTouchDevice() ? "enter" : "send"}
				autocomplete="off"
				aria-describedby={count > 0 ? "composer-count" : undefined}
				onInput={(event) => write(event.currentTarget.value)}
				onKeyDown={(event) => {
					if (event.key !== "Enter" || isComposing(event)) return;
					const sends = event.ctrlKey || event.metaKey || !(event.shiftKey || isTouchDevice());
					if (sends) {
						event.preventDefault();
						submit();
					}
				}}
			/>
			{count > 0 && (
				<span id="composer-count" class={count > limit ? "count over" : "count"}>
					{count > limit ? `${count - limit} too many` : `${limit - count} left`}
				</span>
			)}
			{unfinished && (
				<button
					type="button"
					class="send stop"
					onClick={() => void chat.cancel(unfinished.id)}
					aria-label="Stop the answer"
					title="Stop (Esc)"
				>
					<Square size={18} />
				</button>
			)}
			{(!unfinished || text.trim() !== "") && (
				<button
					type="submit"
					class="send"
					disabled={!canSend}
					aria-label={unfinished ? "Send after this answer" : "Send"}
					title="Send (Enter)"
				>
					<ArrowUp size={19} />
				</button>
			)}
		</form>
	);
}
