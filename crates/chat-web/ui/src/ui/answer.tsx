import { useId, useState } from "preact/hooks";
import { settings } from "../session/session";
import { answerNotes } from "../state/answer-notes";
import {
	answerText,
	type CallPart,
	callStates,
	isUnfinished,
	type Part,
	type TextPart,
	type Turn,
} from "../state/turn";
import { AnswerPager } from "./answer-pager";
import { AnswerText } from "./answer-text";
import { useChat } from "./chat-context";
import { CopyButton } from "./copy-button";
import { FailedNote } from "./failed-note";
import { duration, timeOfDay } from "./format";
import { IconButton } from "./icon-button";
import { Mark, Redo } from "./icons";
import { MessageTime } from "./message-time";
import { ToolCard } from "./tool-card";

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

/** The answer of a turn, or an earlier answer to the same message. */
export function Answer({ current, isLast }: { current: Turn; isLast: boolean }) {
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
				<h3 id={heading} class="author" dir="auto">
					{name}
				</h3>
				{at && <MessageTime at={at} />}
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
				<footer class="actions">
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
						<span class="turn-duration">
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
