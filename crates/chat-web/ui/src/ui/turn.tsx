import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { errorText } from "../api/client";
import { settings, token } from "../session/session";
import { answerNotes } from "../state/answer-notes";
import type { TurnSignal } from "../state/conversation-session";
import { failure } from "../state/failure";
import { notify } from "../state/notices";
import {
	answerText,
	type CallPart,
	callStates,
	isUnfinished,
	type Part,
	type TextPart,
	type Turn,
} from "../state/turn";
import { earlierVersions } from "../state/versions";
import { AnswerText } from "./answer-text";
import { useChat } from "./chat-context";
import { CopyButton } from "./copy-button";
import { ErrorBoundary } from "./error-boundary";
import { duration, exactTime, initials, timeOfDay } from "./format";
import { IconButton } from "./icon-button";
import { Alert, Chevron, Clock, Cross, Mark, Redo, Spinner } from "./icons";
import { PlainText } from "./plain-text";
import { ToolCard } from "./tool-card";

const Time = ({ at }: { at: string }) => (
	<time dateTime={at} title={exactTime(at)}>
		{timeOfDay(at)}
	</time>
);

type PartGroup = TextPart | { type: "calls"; calls: CallPart[] };

/** Groups consecutive tool calls, which share one frame. */
function groupCalls(parts: Part[]): PartGroup[] {
	const all: PartGroup[] = [];
	for (const part of parts) {
		const last = all.at(-1);
		if (part.type === "text") all.push(part);
		else if (last?.type === "calls") last.calls.push(part);
		else all.push({ type: "calls", calls: [part] });
	}
	return all;
}

/** A message of the user. */
export function Question({
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
				<h3 id={heading} class="who" dir="auto">
					{name}
				</h3>
				<Time at={at} />
				<span class="avatar" aria-hidden="true">
					{initials(name)}
				</span>
			</header>
			<div class="say">
				<div class="bubble">
					<div class="said" dir="auto">
						{text}
					</div>
				</div>
				<div class="acts">
					<CopyButton text={() => text} label="Copy message" />
				</div>
			</div>
			{state === "sending" && (
				<p class="fate">
					<Spinner size={14} class="spin" /> Sending
				</p>
			)}
			{state === "queued" && turn && !isCancelling && (
				<p class="fate">
					<Clock size={14} /> Waiting for the previous answer
					<button type="button" class="text-btn" onClick={() => void chat.cancel(turn)}>
						<Cross size={13} /> Withdraw
					</button>
				</p>
			)}
			{state === "queued" && isCancelling && (
				<p class="fate">Withdrawn. This message will not be answered.</p>
			)}
			{state === "cancelled" && <p class="fate">Stopped before it was answered.</p>}
		</article>
	);
}

/** A failed turn: a description, advice, and a button to retry the last turn. */
function FailedNote({ turn, name, isLast }: { turn: Turn; name: string; isLast: boolean }) {
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

/** Pages through the answers to the same message. Earlier ones are read on demand. */
function AnswerPager({
	turn,
	shown,
	show,
}: {
	turn: Turn;
	shown: Turn | null;
	show: (version: Turn | null) => void;
}) {
	const [versions, setVersions] = useState<Turn[] | null>(null);
	const [isLoading, setLoading] = useState(false);
	const index = versions && shown ? versions.findIndex(({ id }) => id === shown.id) : null;
	const move = async (offset: number) => {
		let all = versions;
		if (!all) {
			setLoading(true);
			try {
				all = await earlierVersions(turn);
				setVersions(all);
			} catch (error) {
				notify(errorText(error), { tone: "error" });
				return;
			} finally {
				setLoading(false);
			}
		}
		show(all[(index ?? all.length) + offset] ?? null);
	};
	return (
		<span class="pager" role="group" aria-label="Answers to this message">
			<IconButton
				label="Earlier answer"
				disabled={isLoading || index === 0}
				onClick={() => void move(-1)}
			>
				<Chevron size={15} class="flip" />
			</IconButton>
			{versions ? (
				<span>
					{(index ?? versions.length) + 1}
					<span class="faint"> / {versions.length + 1}</span>
				</span>
			) : (
				<span class="faint">Answered again</span>
			)}
			<IconButton label="Later answer" disabled={index === null} onClick={() => void move(1)}>
				<Chevron size={15} />
			</IconButton>
		</span>
	);
}

/** The answer of a turn, or an earlier answer to the same message. */
function Answer({ current, isLast }: { current: Turn; isLast: boolean }) {
	const chat = useChat();
	const heading = useId();
	const [version, setVersion] = useState<Turn | null>(null);
	const turn = version ?? current;
	const name = settings.value?.agent_name ?? "";
	const isLive = isUnfinished(turn);
	const text = answerText(turn);
	const groups = groupCalls(turn.parts);
	const tail = groups.at(-1);
	const states = callStates(turn, settings.value?.calls_at_once ?? 1);
	const isCalling =
		tail?.type === "calls" && tail.calls.some(({ call }) => call.status === "running");
	const at = turn.answeredAt ?? turn.endedAt;
	const startedAt = turn.question?.at;
	return (
		<article
			class="msg bot"
			aria-labelledby={heading}
			aria-busy={isLive}
			tabIndex={-1}
			data-status={turn.status}
			data-turn={turn.id}
		>
			<header class="meta">
				<span class="avatar">
					<Mark size={24} />
				</span>
				<h3 id={heading} class="who" dir="auto">
					{name}
				</h3>
				{at && <Time at={at} />}
				{version && <span class="old">An earlier answer</span>}
			</header>
			<div class="content">
				{groups.map((group, key) =>
					group.type === "text" ? (
						<AnswerText key={key} text={group.text} live={isLive && group === tail} />
					) : (
						<div
							key={key}
							class="tools"
							role="group"
							aria-label={`Tool calls: ${group.calls.length}`}
						>
							{group.calls.map(({ call }) => (
								<ToolCard key={call.id} call={call} state={states.get(call.id) ?? "lost"} />
							))}
						</div>
					),
				)}
				{isLive && (!tail || (tail.type === "calls" && !isCalling)) && (
					<p class="dots" role="img" aria-label={`${name} is working`}>
						<i />
						<i />
						<i />
					</p>
				)}
				{turn.status === "failed" && (
					<FailedNote turn={turn} name={name} isLast={isLast && !version} />
				)}
				{answerNotes(turn).map((sentence) => (
					<p key={sentence} class="stopped">
						{sentence}
					</p>
				))}
				{turn.status === "cancelled" && (
					<p class="stopped">
						Stopped{turn.endedAt ? ` at ${timeOfDay(turn.endedAt)}` : ""}.{" "}
						{turn.parts.length > 0 && "The text so far is kept."}
					</p>
				)}
			</div>
			{!isUnfinished(current) && (
				<footer class="acts">
					{current.retryOf && <AnswerPager turn={current} shown={version} show={setVersion} />}
					{text && <CopyButton text={() => text} label="Copy answer" />}
					{isLast && !version && turn.status !== "failed" && (
						<IconButton
							label="Answer again"
							disabled={chat.unfinishedTurn.value !== null}
							onClick={() => void chat.activeConversation.peek().retry(turn.id)}
						>
							<Redo size={16} />
						</IconButton>
					)}
					{startedAt && turn.endedAt && (
						<span class="took">
							{duration(Math.max(0, Date.parse(turn.endedAt) - Date.parse(startedAt)))}
							{turn.usage && turn.usage.output_tokens > 0 && (
								<span
									title={`${turn.usage.input_tokens} tokens read, ${turn.usage.output_tokens} written`}
								>
									{" "}
									· {turn.usage.output_tokens} tokens
								</span>
							)}
						</span>
					)}
				</footer>
			)}
		</article>
	);
}

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
					<Question
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
