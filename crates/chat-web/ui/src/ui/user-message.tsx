import { useId } from "preact/hooks";
import { token } from "../session/session";
import { useChat } from "./chat-context";
import { CopyButton } from "./copy-button";
import { initials } from "./format";
import { Clock, Cross, Spinner } from "./icons";
import { MessageTime } from "./message-time";

/** A message of the user. */
export function UserMessage({
	id,
	text,
	at,
	state,
	turn,
}: {
	id: string;
	text: string;
	at: string;
	state?: "sending" | "queued" | "cancelled";
	turn?: string;
}) {
	const chat = useChat();
	const isCancelling = turn !== undefined && chat.cancelling.value.has(turn);
	const name = token.value?.name ?? "You";
	const heading = useId();
	return (
		<article class="msg user" aria-labelledby={heading} tabIndex={-1} data-message={id}>
			<header class="meta">
				<h3 id={heading} class="author" dir="auto">
					{name}
				</h3>
				<MessageTime at={at} />
				<span class="avatar" aria-hidden="true">
					{initials(name)}
				</span>
			</header>
			<div class="message-body">
				<div class="bubble">
					<div class="message-text" dir="auto">
						{text}
					</div>
				</div>
				<div class="actions">
					<CopyButton text={() => text} label="Copy message" />
				</div>
			</div>
			{state === "sending" && (
				<p class="message-status">
					<Spinner size={14} class="spin" /> Sending
				</p>
			)}
			{state === "queued" && turn && !isCancelling && (
				<p class="message-status">
					<Clock size={14} /> Waiting for the previous answer
					<button type="button" class="text-btn" onClick={() => void chat.cancel(turn)}>
						<Cross size={13} /> Withdraw
					</button>
				</p>
			)}
			{state === "queued" && isCancelling && (
				<p class="message-status">Withdrawn. This message will not be answered.</p>
			)}
			{state === "cancelled" && <p class="message-status">Stopped before it was answered.</p>}
		</article>
	);
}
