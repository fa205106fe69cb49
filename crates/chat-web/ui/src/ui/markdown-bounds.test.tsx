import { cleanup, render } from "@testing-library/preact";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { Markdown } from "./markdown";
import { readMarkdown } from "./markdown-reader";

/*
 * Any message is displayed with bounded work.
 */
afterEach(cleanup);

const html = (text: string, live = false) => render(<Markdown text={text} live={live} />).container;
const MARKS = [
	">",
	"> ",
	"- ",
	"* ",
	"1. ",
	"*",
	"**",
	"_",
	"~~",
	"`",
	"```\n",
	"[",
	"![",
	"](",
	"<",
	"<a ",
	"\\",
	"$",
	"$$",
	"\\(",
	"\\[",
	"|",
	"#",
	"&",
];
const NOTE = /It is shown as plain text\.$/;

test.each([...MARKS, "> - ", "- > ", "*a **b ", "[a](", "a_", "\\begin{a}", "|a|b|\n|-|-|\n"])(
	"a megabyte of %j is shown",
	{ timeout: 60_000 },
	(mark) => {
		const text = mark.repeat(Math.ceil(1_000_000 / mark.length));
		const container = html(text);
		expect(container.textContent).toMatch(NOTE);
		expect(container.querySelectorAll("blockquote, ul, ol").length).toBeLessThan(10_000);
	},
);

test.each([">", "> ", "- ", "1. ", "> - "])(
	"%j nested too deeply is shown as plain text, with a note",
	(mark) => {
		for (const times of [100, 600, 5_000]) {
			const container = html(`Before\n\n${mark.repeat(times)} the end`);
			expect(container.querySelector("p")?.textContent).toBe("Before");
			expect(container.querySelector(".plain")?.textContent).toContain("the end");
			expect(container.querySelector(".note")?.textContent).toMatch(NOTE);
			cleanup();
		}
		expect(html(`${mark.repeat(5)} the end`).querySelector(".note")).toBeNull();
	},
);

test("any mixture of marks is displayed, also cut anywhere while it arrives, and loses no letter", {
	timeout: 60_000,
}, () => {
	const piece = fc.oneof(
		fc
			.tuple(fc.constantFrom(...MARKS, "\n", "\n\n", "  "), fc.integer({ min: 1, max: 40 }))
			.map(([mark, times]) => mark.repeat(times)),
		fc.constantFrom("word ", "x", "\n- item", "\n> quote", "| a | b |\n|--|--|\n| c | d |\n"),
	);
	fc.assert(
		fc.property(fc.array(piece, { maxLength: 12 }), fc.nat(), (pieces, cut) => {
			const text = pieces.join("");
			expect(html(text).querySelector(".md")).not.toBeNull();
			expect(
				readMarkdown(text)
					.map((token) => token.raw)
					.join("")
					.replace(/\s/g, ""),
			).toBe(text.replace(/\s/g, ""));
			html(text.slice(0, cut % (text.length + 1)), true);
			cleanup();
		}),
		{ numRuns: 150 },
	);
});

test("deeply nested text is displayed while it arrives", () => {
	const text = `${"> ".repeat(40)}${"- ".repeat(40)}${"**a ".repeat(40)}`;
	const { container, rerender } = render(<Markdown text="" live />);
	for (let length = 0; length <= text.length; length += 2) {
		rerender(<Markdown text={text.slice(0, length)} live />);
		expect(container.querySelectorAll(".md")).toHaveLength(1);
	}
});

test("text that cannot be formatted at all is shown as plain text", () => {
	const broken = { toString: () => "not a text" } as unknown as string;
	expect(html(broken).querySelector(".plain")?.textContent).toBe("not a text");
});
