import fc from "fast-check";
import { expect, test } from "vitest";
import { segments, withoutReasoning } from "./reasoning";

const split = (text: string, live = false) =>
	segments(text, live).map((segment) => [segment.kind, segment.text, segment.open]);

test("text between the tags is reasoning", () => {
	for (const name of ["think", "thinking", "THINK", "reasoning", "thought"]) {
		expect(split(`<${name}>\nLet me see.\n</${name}>\n\nYes.`)).toEqual([
			["reasoning", "Let me see.", false],
			["text", "\nYes.", false],
		]);
	}
	expect(split("<think>a</think>b")).toEqual([
		["reasoning", "a", false],
		["text", "b", false],
	]);
	expect(split("First.\n<think>a</think>\nThen.").map(([kind]) => kind)).toEqual([
		"text",
		"reasoning",
		"text",
	]);
	expect(split("<think>\n\n</think>\n\nYes.")).toEqual([["text", "\nYes.", false]]);
});

test("a closing tag alone makes everything before it reasoning", () => {
	expect(split("Let me see.\n</think>\n\nYes.")[0]).toEqual(["reasoning", "Let me see.", false]);
});

test("reasoning without a closing tag extends to the end", () => {
	expect(split("<think>\nLet me", true)).toEqual([["reasoning", "Let me", true]]);
	expect(split("<think>\nLet me")).toEqual([["reasoning", "Let me", false]]);
});

test("a tag in code, or within a line, is text", () => {
	for (const text of [
		"```html\n<think>\nx\n</think>\n```",
		"Write `<think>` first.",
		"<thinker>x</thinker>",
		"a < b",
		"",
	]) {
		expect(
			segments(text).every(({ kind }) => kind === "text"),
			text,
		).toBe(true);
		expect(withoutReasoning(text)).toBe(text);
	}
});

test("an incomplete tag is not shown while it arrives", () => {
	const text = "<think>\nHm.\n</think>\n\nYes.";
	for (let length = 1; length < text.length; length++) {
		for (const segment of segments(text.slice(0, length), true)) {
			if (segment.kind === "text") expect(segment.text).not.toMatch(/[<>]/);
		}
	}
});

test("no text and no reasoning is lost, whatever the tags", () => {
	const piece = fc.constantFrom("<think>", "</think>", "word", "\n", "```", "<", "  ", "\n\n");
	fc.assert(
		fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
			const words = (text: string) => text.match(/word/g)?.length ?? 0;
			const text = pieces.join("");
			expect(segments(text).reduce((sum, segment) => sum + words(segment.text), 0)).toBe(
				words(text),
			);
		}),
	);
});
