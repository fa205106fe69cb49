import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { settings, token } from "../session/session";
import { cancel, retry, running, stopping, type TurnSignal } from "../state/conversation";
import { endings } from "../state/ending";
import { failure } from "../state/failure";
import { sentence } from "../state/list";
import { tell } from "../state/notices";
import {
	answerText,
	type CallPart,
	callStates,
	isOpen,
	type Part,
	type TextPart,
	type Turn,
} from "../state/turn";
import { earlierVersions } from "../state/versions";
import { CopyButton } from "./bits";
import { Boundary, Plain } from "./boundary";
import { clock, duration, exact, initials } from "./format";
import { Alert, Chevron, Clock, Cross, Mark, Redo, Spinner } from "./icons";
import { AnswerText } from "./reasoning";
import { ToolCard } from "./tool-card";

const Time = ({ at }: { at: string }) => (
	<time dateTime={at} title={exact(at)}>
		{clock(at)}
	</time>
);

type Run = TextPart | { type: "calls"; calls: CallPart[] };

/** Tool calls that follow each other share one frame. */
function runs(parts: Part[]): Run[] {
	const all: Run[] = [];
	for (const part of parts) {
		const last = all.at(-1);
		if (part.type === "text") all.push(part);
		else if (last?.type === "calls") last.calls.push(part);
		else all.push({ type: "calls", calls: [part] });
	}
	return all;
}

/** What the user said. */
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
			{state === "queued" && turn && !stopping.value.has(turn) && (
				<p class="fate">
					<Clock size={14} /> Waits for the answer before it
					<button type="button" class="text-btn" onClick={() => void cancel(turn)}>
						<Cross size={13} /> Take back
					</button>
				</p>
			)}
			{state === "queued" && turn && stopping.value.has(turn) && (
				<p class="fate">Taken back. It will not be answered.</p>
			)}
			{state === "cancelled" && <p class="fate">Stopped before it was answered.</p>}
		</article>
	);
}

function Failed({ turn, name, last }: { turn: Turn; name: string; last: boolean }) {
	const { happened, advice } = failure(turn, name);
	return (
		<div class="failed">
			<Alert size={18} />
			<div>
				<p dir="auto">
					{happened} {last && advice}
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
			{last && (
				<button
					type="button"
					class="btn"
					onClick={() => void retry(turn.id)}
					disabled={running.value !== null}
				>
					<Redo size={16} /> Try again
				</button>
			)}
		</div>
	);
}

/** Leads to the earlier answers to the same message; they are read when somebody wants them. */
function Versions({
	turn,
	shown,
	show,
}: {
	turn: Turn;
	shown: Turn | null;
	show: (version: Turn | null) => void;
}) {
	const [versions, setVersions] = useState<Turn[] | null>(null);
	const [loading, setLoading] = useState(false);
	const at = versions && shown ? versions.findIndex((version) => version.id === shown.id) : null;
	const step = async (by: number) => {
		let all = versions;
		if (!all) {
			setLoading(true);
			try {
				all = await earlierVersions(turn);
				setVersions(all);
			} catch (error) {
				tell(sentence(error), { tone: "error" });
				return;
			} finally {
				setLoading(false);
			}
		}
		show(all[(at ?? all.length) + by] ?? null);
	};
	return (
		<span class="pager" role="group" aria-label="Answers to this message">
			<button
				type="button"
				class="icon-btn"
				aria-label="Earlier answer"
				title="Earlier answer"
				disabled={loading || at === 0}
				onClick={() => void step(-1)}
			>
				<Chevron size={15} class="flip" />
			</button>
			{versions ? (
				<span>
					{(at ?? versions.length) + 1}
					<span class="faint"> / {versions.length + 1}</span>
				</span>
			) : (
				<span class="faint">Answered again</span>
			)}
			<button
				type="button"
				class="icon-btn"
				aria-label="Later answer"
				title="Later answer"
				disabled={at === null}
				onClick={() => void step(1)}
			>
				<Chevron size={15} />
			</button>
		</span>
	);
}

function Answer({ current, last }: { current: Turn; last: boolean }) {
	const heading = useId();
	const [version, setVersion] = useState<Turn | null>(null);
	const turn = version ?? current;
	const name = settings.value?.agent_name ?? "";
	const live = isOpen(turn);
	const text = answerText(turn);
	const list = runs(turn.parts);
	const tail = list.at(-1);
	const states = callStates(turn, settings.value?.calls_at_once ?? 1);
	const callsRun =
		tail?.type === "calls" && tail.calls.some(({ call }) => call.status === "running");
	const at = turn.answeredAt ?? turn.endedAt;
	const began = turn.question?.at;
	return (
		<article
			class="msg bot"
			aria-labelledby={heading}
			aria-busy={live}
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
				{list.map((run, key) =>
					run.type === "text" ? (
						<AnswerText key={key} text={run.text} live={live && run === tail} />
					) : (
						<div
							key={key}
							class="tools"
							role="group"
							aria-label={`Tool calls: ${run.calls.length}`}
						>
							{run.calls.map(({ call }) => (
								<ToolCard key={call.id} call={call} state={states.get(call.id) ?? "lost"} />
							))}
						</div>
					),
				)}
				{live && (!tail || (tail.type === "calls" && !callsRun)) && (
					<p class="dots" role="img" aria-label={`${name} is working`}>
						<i />
						<i />
						<i />
					</p>
				)}
				{turn.status === "failed" && <Failed turn={turn} name={name} last={last && !version} />}
				{endings(turn).map((sentence) => (
					<p key={sentence} class="stopped">
						{sentence}
					</p>
				))}
				{turn.status === "cancelled" && (
					<p class="stopped">
						Stopped{turn.endedAt ? ` at ${clock(turn.endedAt)}` : ""}.{" "}
						{turn.parts.length > 0 && "What had arrived is kept."}
					</p>
				)}
			</div>
			{!isOpen(current) && (
				<footer class="acts">
					{current.retryOf && <Versions turn={current} shown={version} show={setVersion} />}
					{text && <CopyButton text={() => text} label="Copy answer" />}
					{last && !version && turn.status !== "failed" && (
						<button
							type="button"
							class="icon-btn"
							aria-label="Answer again"
							title="Answer again"
							onClick={() => void retry(turn.id)}
							disabled={running.value !== null}
						>
							<Redo size={16} />
						</button>
					)}
					{began && turn.endedAt && (
						<span class="took">
							{duration(Math.max(0, Date.parse(turn.endedAt) - Date.parse(began)))}
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

const UNSHOWN = "This message could not be shown. This is its text as it was written.";

/** A message; if it cannot be shown, its text stands there, and all around it stays. */
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
			<Plain text={text} note={UNSHOWN} />
		</article>
	);
	return (
		<Boundary of={of} fallback={plain}>
			{children}
		</Boundary>
	);
}

export function TurnView({ turn: source, last }: { turn: TurnSignal; last: boolean }) {
	const turn = source.value;
	const { question } = turn;
	const unanswered =
		turn.status === "queued" ||
		(turn.status === "cancelled" && turn.parts.length === 0 && !turn.retryOf);
	return (
		<section class={last ? "turn last" : isOpen(turn) ? "turn open" : "turn"}>
			{question && (
				<Message of={question} text={String(question.text)}>
					<Question
						id={question.id}
						text={question.text}
						at={question.at}
						turn={turn.id}
						state={
							turn.status === "queued" ? "queued" : unanswered && !last ? "cancelled" : undefined
						}
					/>
				</Message>
			)}
			{turn.status !== "queued" && !(unanswered && !last) && (
				<Message of={turn} text={answerText(turn)}>
					<Answer current={turn} last={last} />
				</Message>
			)}
		</section>
	);
}
