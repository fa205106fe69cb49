import { useEffect, useId, useState } from "preact/hooks";
import { writeJson } from "../api/json";
import type { ToolCall } from "../api/types";
import type { CallState } from "../state/turn";
import { CopyButton } from "./bits";
import { Boundary } from "./boundary";
import { Code } from "./code";
import { bytes, duration, exact } from "./format";
import { Check, Chevron, Clock, Cross, Question, Spinner } from "./icons";

const WORD: Record<CallState, string> = {
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

const TICK = 100;

/** The time since `since`, while a call runs. */
function useElapsed(since: string, on: boolean): number {
	const [now, setNow] = useState(Date.now());
	useEffect(() => {
		if (!on) return;
		setNow(Date.now());
		const timer = setInterval(() => setNow(Date.now()), TICK);
		return () => clearInterval(timer);
	}, [on]);
	return Math.max(0, now - Date.parse(since));
}

/** Text as it is, everything else as JSON. */
const written = (value: unknown) => (typeof value === "string" ? value : writeJson(value));

const MOST_FIELDS = 8;

/** Few and named: shown as a small table. */
function isRecord(value: unknown): value is Record<string, unknown> {
	if (typeof value !== "object" || value === null || Array.isArray(value) || "rawJSON" in value)
		return false;
	const count = Object.keys(value).length;
	return count > 0 && count <= MOST_FIELDS;
}

const SHOWN = 2_000;

function Value({ value, name }: { value: unknown; name: string }) {
	const text = written(value);
	const [whole, setWhole] = useState(false);
	const cut = !whole && text.length > SHOWN;
	return (
		<div class="value" dir="ltr">
			<pre tabIndex={0} role="group" aria-label={name}>
				<Code
					text={cut ? `${text.slice(0, SHOWN)}…` : text}
					lang={typeof value === "string" ? "" : "json"}
				/>
			</pre>
			{text.length > SHOWN && (
				<button type="button" class="text-btn" onClick={() => setWhole(!whole)}>
					{whole ? "Show less" : `Show all (${bytes(new TextEncoder().encode(text).length)})`}
				</button>
			)}
		</div>
	);
}

function Parameters({ value }: { value: unknown }) {
	if (!isRecord(value)) return <Value value={value} name="Parameters" />;
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

/** Why there is no result. The server's words about an unknown outcome begin as sentences do; a tool's words are its own. */
function reason({ status, error }: ToolCall): string {
	const message = error?.message ?? "";
	return status === "unknown" ? message.charAt(0).toLocaleUpperCase() + message.slice(1) : message;
}

const GIST = 160;

/** What a call is about, in one line. */
function gist(value: unknown): string {
	const fields = isRecord(value) ? Object.values(value) : [value];
	const line = fields
		.map((field) => (Array.isArray(field) ? field.map(written).join(", ") : written(field)))
		.join(" · ");
	return line === "{}" ? "" : line.replace(/\s+/g, " ").slice(0, GIST);
}

function Result({ call, state }: { call: ToolCall; state: CallState }) {
	if (call.error) {
		return (
			<section>
				<h4>Error</h4>
				<p class="tool-err">
					<strong>{call.error.code}</strong> <span dir="auto">{reason(call)}</span>
				</p>
			</section>
		);
	}
	const there = call.result !== undefined;
	return (
		<section>
			<h4>
				Result {there && <CopyButton text={() => written(call.result)} label="Copy result" />}
			</h4>
			{there ? (
				<Value value={call.result} name="Result" />
			) : (
				<p class="faint">
					{state === "lost" ? "The turn ended before there was one." : "Waiting for the result."}
				</p>
			)}
		</section>
	);
}

/** A tool call; one that cannot be shown is named. */
export function ToolCard({ call, state }: { call: ToolCall; state: CallState }) {
	return (
		<Boundary
			of={call}
			fallback={() => (
				<p class="note tool-broken">This call of {String(call.tool_name)} could not be shown.</p>
			)}
		>
			<WholeCard call={call} state={state} />
		</Boundary>
	);
}

function WholeCard({ call, state }: { call: ToolCall; state: CallState }) {
	const [open, setOpen] = useState(false);
	const busy = state === "running";
	const elapsed = useElapsed(call.executed_at, busy);
	const id = useId();
	const took = busy ? elapsed : call.duration_ms;
	return (
		<div class={`tool is-${state}`} data-call={call.id}>
			<button
				type="button"
				class="tool-head"
				aria-expanded={open}
				aria-controls={id}
				onClick={() => setOpen(!open)}
			>
				<span class="tool-icon">
					<StateIcon state={state} />
				</span>
				<span class="tool-name">{call.tool_name}</span>
				<span class="tool-sum" dir="auto">
					{call.error ? reason(call) : gist(call.parameters)}
				</span>
				<span class="tool-status">
					{state === "succeeded" ? <span class="sr">{WORD[state]}</span> : WORD[state]}
				</span>
				{took !== undefined && <span class="tool-time">{duration(took)}</span>}
				<Chevron size={15} class="chev" />
			</button>
			<div id={id} class="tool-body" hidden={!open}>
				{open && (
					<>
						<section>
							<h4>Parameters</h4>
							<Parameters value={call.parameters} />
						</section>
						<Result call={call} state={state} />
						<p class="tool-id">
							{state === "waiting" ? "Asked for" : "Started"}{" "}
							<time dateTime={call.executed_at}>{exact(call.executed_at)}</time> · call{" "}
							<code>{call.id}</code>
						</p>
					</>
				)}
			</div>
		</div>
	);
}
