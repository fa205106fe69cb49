import type { ComponentChildren } from "preact";
import type { TurnSignal } from "../state/conversation-session";
import { answerText, isUnfinished } from "../state/turn";
import { Answer } from "./answer";
import { ErrorBoundary } from "./error-boundary";
import { PlainText } from "./plain-text";
import { UserMessage } from "./user-message";

const NOT_DISPLAYED = "This message could not be displayed. This is its text without formatting.";

/** A message. One that cannot be displayed shows its plain text. */
function Message({
	of,
	text,
	children,
}: {
	of: unknown;
	text: string;
	children: ComponentChildren;
}) {
	const plain = () => (
		<article class="msg" tabIndex={-1}>
			<PlainText text={text} note={NOT_DISPLAYED} />
		</article>
	);
	return (
		<ErrorBoundary of={of} fallback={plain}>
			{children}
		</ErrorBoundary>
	);
}

/** A turn: the message of the user and the answer. */
export function TurnView({ turn: source, isLast }: { turn: TurnSignal; isLast: boolean }) {
	const turn = source.value;
	const { question } = turn;
	const isUnanswered =
		turn.status === "queued" ||
		(turn.status === "cancelled" && turn.parts.length === 0 && !turn.retryOf);
	return (
		<section class={isLast ? "turn last" : isUnfinished(turn) ? "turn open" : "turn"}>
			{question && (
				<Message of={question} text={String(question.text)}>
					<UserMessage
						id={question.id}
						text={question.text}
						at={question.at}
						turn={turn.id}
						state={
							turn.status === "queued"
								? "queued"
								: isUnanswered && !isLast
									? "cancelled"
									: undefined
						}
					/>
				</Message>
			)}
			{turn.status !== "queued" && !(isUnanswered && !isLast) && (
				<Message of={turn} text={answerText(turn)}>
					<Answer current={turn} isLast={isLast} />
				</Message>
			)}
		</section>
	);
}
