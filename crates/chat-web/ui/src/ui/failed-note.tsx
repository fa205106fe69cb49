import { failure } from "../state/failure";
import type { Turn } from "../state/turn";
import { useChat } from "./chat-context";
import { Alert, Redo } from "./icons";

/** A failed turn: a description, advice, and a button to retry the last turn. */
export function FailedNote({ turn, name, isLast }: { turn: Turn; name: string; isLast: boolean }) {
	const chat = useChat();
	const { description, advice } = failure(turn, name);
	return (
		<div class="failed">
			<Alert size={18} />
			<div>
				<p dir="auto">
					{description} {isLast && advice}
				</p>
				{turn.error?.message && (
					<p class="faint" dir="auto">
						{turn.error.message}
					</p>
				)}
				<p class="faint">
					<code>{turn.error?.code}</code> · turn <code class="turn-id">{turn.id}</code>
				</p>
			</div>
			{isLast && (
				<button
					type="button"
					class="btn"
					onClick={() => void chat.activeConversation.peek().retry(turn.id)}
					disabled={chat.unfinishedTurn.value !== null}
				>
					<Redo size={16} /> Try again
				</button>
			)}
		</div>
	);
}
