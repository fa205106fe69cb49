import { useState } from "preact/hooks";
import { type Segment, segments } from "../state/reasoning";
import { Chevron } from "./icons";
import { Markdown } from "./markdown";

/** The reasoning of a model before its answer, collapsed. */
function Reasoning({ segment }: { segment: Segment }) {
	const [open, setOpen] = useState(false);
	return (
		<details class="reasoning" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
			<summary>
				<Chevron size={15} class="chev" />
				{segment.open ? "Thinking …" : "Reasoning"}
			</summary>
			{open && <Markdown text={segment.text} live={segment.open} />}
		</details>
	);
}

/** The text and the reasoning of an answer, in order. */
export function AnswerText({ text, live }: { text: string; live: boolean }) {
	return (
		<>
			{segments(text, live).map((segment, key) =>
				segment.kind === "reasoning" ? (
					<Reasoning key={key} segment={segment} />
				) : (
					<Markdown key={key} text={segment.text} live={segment.open} />
				),
			)}
		</>
	);
}
