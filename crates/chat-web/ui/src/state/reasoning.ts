/** A piece of an answer: its text, or the reasoning of the model before it. */
export interface Segment {
	kind: "text" | "reasoning";
	text: string;
	/** Whether more of the segment may still arrive. */
	open: boolean;
}

const TAG = /^[ \t]*<(\/?)(think|thinking|thought|reasoning)>/i;
const FENCE = /^ {0,3}(`{3,}|~{3,})/;
/** The beginning of a tag whose rest has not arrived. */
const PARTIAL = /^[ \t]*<\/?[a-z]{0,9}$/i;
const TAGS = [
	"<think>",
	"<thinking>",
	"<thought>",
	"<reasoning>",
	"</think>",
	"</thinking>",
	"</thought>",
	"</reasoning>",
];

/**
 * Splits an answer where a line begins with `<think>` or a similar tag. Some models send the
 * closing tag alone: then everything before it is reasoning. A tag in a code block is code. `live`:
 * more of the text may arrive.
 */
export function segments(text: string, live = false): Segment[] {
	if (!text.includes("<")) return [{ kind: "text", text, open: live }];
	const all: Segment[] = [];
	let kind: Segment["kind"] = "text";
	let fence = "";
	let current = "";
	const end = (open: boolean) => {
		if (current.trim() !== "")
			all.push({ kind, text: kind === "reasoning" ? current.trim() : current, open });
		current = "";
	};
	const lines = text.split(/(?<=\n)/);
	for (const [index, line] of lines.entries()) {
		let rest = line;
		if (kind === "reasoning") {
			const closing = /<\/(?:think|thinking|thought|reasoning)>/i.exec(rest);
			if (!closing) {
				current += rest;
				continue;
			}
			current += rest.slice(0, closing.index);
			end(false);
			kind = "text";
			rest = rest.slice(closing.index + closing[0].length);
			// The rest of the line separates reasoning and text; it belongs to neither.
			if (rest.trim() === "") rest = "";
		}
		const mark = FENCE.exec(rest)?.[1];
		if (mark && fence === "") fence = mark;
		else if (mark?.startsWith(fence) && rest.trim() === mark) fence = "";
		const tag = fence === "" ? TAG.exec(rest) : null;
		if (tag?.[1] === "/") {
			const first = all.length === 0;
			if (first) kind = "reasoning";
			else current += tag[0];
			if (first) end(false);
			kind = "text";
			current += rest.slice(tag[0].length).trim() === "" ? "" : rest.slice(tag[0].length);
			continue;
		}
		if (tag) {
			end(false);
			kind = "reasoning";
			const inside = rest.slice(tag[0].length);
			const closing = /<\/(?:think|thinking|thought|reasoning)>/i.exec(inside);
			if (!closing) {
				current = inside;
				continue;
			}
			current = inside.slice(0, closing.index);
			end(false);
			kind = "text";
			current = inside.slice(closing.index + closing[0].length);
			continue;
		}
		if (
			live &&
			index === lines.length - 1 &&
			fence === "" &&
			PARTIAL.test(rest) &&
			TAGS.some((one) => one.startsWith(rest.trim()))
		)
			continue;
		current += rest;
	}
	end(live);
	return all;
}

/** The text of an answer without the reasoning. */
export const withoutReasoning = (text: string) =>
	segments(text)
		.filter(({ kind }) => kind === "text")
		.map((segment) => segment.text)
		.join("");
