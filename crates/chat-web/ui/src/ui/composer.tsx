import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { settings } from "../session/session";
import { cancel, open, running, send } from "../state/conversation";
import { draftOf, draftsFromElsewhere, keepDraft } from "../state/drafts";
import { ArrowUp, Square } from "./icons";
import { composing, isTouch } from "./keys";

const TALLEST = 240;
/** From which share of the limit on the count is shown. */
const NEAR = 0.8;

export const field = () => document.getElementById("composer") as HTMLTextAreaElement | null;

/** As the server counts: Unicode scalar values. */
const length = (text: string) => [...text].length;

export function Composer() {
	const shown = open.value;
	const conversation = shown.id.value;
	const changed = shown.draftChanged.value + draftsFromElsewhere.value;
	const [text, setText] = useState("");
	const box = useRef<HTMLTextAreaElement>(null);
	// Before anything else can be typed, which would be kept in its place.
	useLayoutEffect(() => setText(draftOf(conversation)?.text ?? ""), [conversation, shown, changed]);
	useEffect(() => {
		if (matchMedia("(pointer: fine)").matches) box.current?.focus({ preventScroll: true });
	}, [shown]);
	useLayoutEffect(() => {
		const area = box.current;
		if (!area) return;
		area.style.height = "auto";
		area.style.height = `${Math.min(area.scrollHeight, TALLEST)}px`;
	}, [text]);
	const name = settings.value?.agent_name ?? "";
	const limit = settings.value?.message_limit ?? Number.POSITIVE_INFINITY;
	const count = text.length > limit * NEAR ? length(text) : 0;
	const sending = shown.sending.value !== null;
	const ready = text.trim() !== "" && !sending && count <= limit;
	const run = running.value;
	const write = (next: string) => {
		setText(next);
		keepDraft(conversation, next);
	};
	// Who sends while another message is on its way sends after it; but not if that one is given back, before this one.
	const wanted = useRef(false);
	const submit = () => {
		wanted.current = sending;
		if (!ready) return;
		setText("");
		void send(text);
	};
	useLayoutEffect(() => {
		if (sending) return;
		if (wanted.current && draftOf(conversation)?.text === text) submit();
		wanted.current = false;
	}, [sending]);
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
				ref={box}
				rows={1}
				dir="auto"
				value={text}
				placeholder={run ? "Write what comes next" : `Message ${name}`}
				enterkeyhint={isTouch() ? "enter" : "send"}
				autocomplete="off"
				aria-describedby={count > 0 ? "composer-count" : undefined}
				onInput={(event) => write(event.currentTarget.value)}
				onKeyDown={(event) => {
					if (event.key !== "Enter" || composing(event)) return;
					const sends = event.ctrlKey || event.metaKey || !(event.shiftKey || isTouch());
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
			{run && (
				<button
					type="button"
					class="send stop"
					onClick={() => void cancel(run.id)}
					aria-label="Stop the answer"
					title="Stop (Esc)"
				>
					<Square size={18} />
				</button>
			)}
			{(!run || text.trim() !== "") && (
				<button
					type="submit"
					class="send"
					disabled={!ready}
					aria-label={run ? "Send after this answer" : "Send"}
					title="Send (Enter)"
				>
					<ArrowUp size={19} />
				</button>
			)}
		</form>
	);
}
