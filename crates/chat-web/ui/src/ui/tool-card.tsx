import { useEffect, useId, useState } from "preact/hooks";
import { writeJson } from "../api/json";
import type { ToolCall } from "../api/types";
import type { CallState } from "../state/turn";
import { Code } from "./code";
import { CopyButton } from "./copy-button";
import { ErrorBoundary } from "./error-boundary";
import { bytes, duration, exactTime } from "./format";
import { Check, Chevron, Clock, Cross, Question, Spinner } from "./icons";

const STATE_NAME: Record<CallState, string> = {
	waiting: "Waiting",
	running: "Running",
	succeeded: "Done",
	failed: "Failed",
	unknown: "Unknown",
	lost: "No result",
};

function StateIcon({ state }: { state: CallState }) {
	switch (state) {
		case "waiting":
			return <Clock size={15} />;
		case "running":
			return <Spinner size={15} class="spin" />;
		case "succeeded":
			return <Check size={15} />;
		case "failed":
			return <Cross size={15} />;
		default:
			return <Question size={15} />;
	}
}

/** How often the clock of a running call changes, in milliseconds. */
const TICK = 100;

/** The time since `since` in milliseconds; it grows while the call is running. */
function useElapsed(since: string, isRunning: boolean): number {
	const [now, setNow] = useState(Date.now());
	useEffect(() => {
		if (!isRunning) return;
		setNow(Date.now());
		const timer = setInterval(() => setNow(Date.now()), TICK);
		return () => clearInterval(timer);
	}, [isRunning]);
	return Math.max(0, now - Date.parse(since));
}

/** A text as it is, any other value as JSON. */
const asText = (value: unknown) => (typeof value === "string" ? value : writeJson(value));

const MAX_FIELDS = 8;

/** Whether a value has few enough named fields for a table. */
function isSmallRecord(value: unknown): value is Record<string, unknown> {
	if (typeof value !== "object" || value === null || Array.isArray(value) || "rawJSON" in value)
		return false;
	const count = Object.keys(value).length;
	return count > 0 && count <= MAX_FIELDS;
}

/** Longer values are cut until the user asks for all of them, in characters. */
const PREVIEW_LENGTH = 2_000;

function Value({ value, name }: { value: unknown; name: string }) {
	const text = asText(value);
	const [showsAll, setShowsAll] = useState(false);
	const isCut = !showsAll && text.length > PREVIEW_LENGTH;
	return (
		<div class="value" dir="ltr">
			<pre tabIndex={0} role="group" aria-label={name}>
				<Code
					text={isCut ? `${text.slice(0, PREVIEW_LENGTH)}…` : text}
					lang={typeof value === "string" ? "" : "json"}
				/>
			</pre>
			{text.length > PREVIEW_LENGTH && (
				<button type="button" class="text-btn" onClick={() => setShowsAll(!showsAll)}>
					{showsAll ? "Show less" : `Show all (${bytes(new TextEncoder().encode(text).length)})`}
				</button>
			)}
		</div>
	);
}

function Parameters({ value }: { value: unknown }) {
	if (!isSmallRecord(value)) return <Value value={value} name="Parameters" />;
	return (
		<dl class="args">
			{Object.entries(value).map(([name, field]) => (
				<div key={name}>
					<dt>{name}</dt>
					<dd>
						{typeof field === "string" && field.includes("\n") ? (
							<Value value={field} name={name} />
						) : (
							<code dir="auto">{typeof field === "string" ? field : writeJson(field)}</code>
						)}
					</dd>
				</div>
			))}
		</dl>
	);
}

/**
 * The error message of a call. The server's own messages lack a capital letter; a tool's stay as
 * they are.
 */
function errorMessage({ status, error }: ToolCall): string {
	const message = error?.message ?? "";
	return status === "unknown" ? message.charAt(0).toLocaleUpperCase() + message.slice(1) : message;
}

const SUMMARY_LENGTH = 160;

/** The parameters of a call in one line. */
function summary(value: unknown): string {
	const fields = isSmallRecord(value) ? Object.values(value) : [value];
	const line = fields
		.map((field) => (Array.isArray(field) ? field.map(asText).join(", ") : asText(field)))
		.join(" · ");
	return line === "{}" ? "" : line.replace(/\s+/g, " ").slice(0, SUMMARY_LENGTH);
}

function Result({ call, state }: { call: ToolCall; state: CallState }) {
	if (call.error) {
		return (
			<section>
				<h4>Error</h4>
				<p class="tool-err">
					<strong>{call.error.code}</strong> <span dir="auto">{errorMessage(call)}</span>
				</p>
			</section>
		);
	}
	const hasResult = call.result !== undefined;
	return (
		<section>
			<h4>
				Result {hasResult && <CopyButton text={() => asText(call.result)} label="Copy result" />}
			</h4>
			{hasResult ? (
				<Value value={call.result} name="Result" />
			) : (
				<p class="faint">
					{state === "lost" ? "The turn ended without a result." : "Waiting for the result."}
				</p>
			)}
		</section>
	);
}

/** A tool call. A call that cannot be displayed shows its name alone. */
export function ToolCard({ call, state }: { call: ToolCall; state: CallState }) {
	return (
		<ErrorBoundary
			of={call}
			fallback={() => (
				<p class="note tool-broken">
					This call of {String(call.tool_name)} could not be displayed.
				</p>
			)}
		>
			<FullCard call={call} state={state} />
		</ErrorBoundary>
	);
}

function FullCard({ call, state }: { call: ToolCall; state: CallState }) {
	const [isOpen, setOpen] = useState(false);
	const isRunning = state === "running";
	const elapsed = useElapsed(call.executed_at, isRunning);
	const id = useId();
	const time = isRunning ? elapsed : (call.duration_ms ?? undefined);
	return (
		<div class={`tool is-${state}`} data-call={call.id}>
			<button
				type="button"
				class="tool-head"
				aria-expanded={isOpen}
				aria-controls={id}
				onClick={() => setOpen(!isOpen)}
			>
				<span class="tool-icon">
					<StateIcon state={state} />
				</span>
				<span class="tool-name">{call.tool_name}</span>
				<span class="tool-sum" dir="auto">
					{call.error ? errorMessage(call) : summary(call.parameters)}
				</span>
				<span class="tool-status">
					{state === "succeeded" ? <span class="sr">{STATE_NAME[state]}</span> : STATE_NAME[state]}
				</span>
				{time !== undefined && <span class="tool-time">{duration(time)}</span>}
				<Chevron size={15} class="chev" />
			</button>
			<div id={id} class="tool-body" hidden={!isOpen}>
				{isOpen && (
					<>
						<section>
							<h4>Parameters</h4>
							<Parameters value={call.parameters} />
						</section>
						<Result call={call} state={state} />
						<p class="tool-id">
							{state === "waiting" ? "Requested" : "Started"}{" "}
							<time dateTime={call.executed_at}>{exactTime(call.executed_at)}</time> · call{" "}
							<code>{call.id}</code>
						</p>
					</>
				)}
			</div>
		</div>
	);
}
