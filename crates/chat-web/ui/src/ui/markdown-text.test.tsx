import { cleanup, render } from "@testing-library/preact";
import { afterEach, expect, test } from "vitest";
import { Markdown } from "./markdown";

/*
 * Formulas, line breaks and the direction of each block stay as they are in the text.
 */
afterEach(cleanup);

const html = (text: string, live = false) => render(<Markdown text={text} live={live} />).container;

test.each([
	["\\(a_1 * b_1 * c\\)", "span"],
	["\\(\\frac{1}{2} \\\\ x\\)", "span"],
	["$x_1 + y_1 * z*w$", "span"],
	["$\\{a\\}$", "span"],
	["$$a_1 \\\\ b_1$$", "p"],
	["\\[\nx\n=\n\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}\n\\]", "p"],
	["$$\n- a \\\\\n+ b\n\n- c\n$$", "p"],
	["\\begin{align*}\na &= b \\\\\nc &= d\n\\end{align*}", "p"],
])("the formula %j is shown unchanged", (formula, element) => {
	const within = [
		`Before:\n${formula}\nafter **bold**`,
		...(formula.includes("\n") ? [] : [`- item ${formula}`]),
	];
	for (const text of [formula, ...within]) {
		const math = html(text).querySelector(".math");
		expect(math?.textContent?.trim(), text).toBe(formula);
		expect(math?.children).toHaveLength(0);
		cleanup();
	}
	expect(html(formula).querySelector(".math")?.localName).toBe(element);
});

test("formulas are recognised within emphasis, cells and sentences", () => {
	const container = html(
		"*so $a*b$ it is* and \\(c\\), $d$.\n\n| $e_1$ | f |\n|---|---|\n| \\(g\\) | h |",
	);
	expect([...container.querySelectorAll(".math")].map((math) => math.textContent)).toEqual([
		"$a*b$",
		"\\(c\\)",
		"$d$",
		"$e_1$",
		"\\(g\\)",
	]);
	expect(container.querySelector("em")?.textContent).toBe("so $a*b$ it is");
});

test.each(["It costs $5 and $10.", "$5-$10", "US$ 3 or $ 4", "$HOME and $PATH", "a $ alone"])(
	"%j contains no formula",
	(text) => {
		expect(html(text).querySelector(".math")).toBeNull();
		expect(html(text).querySelector("p")?.textContent).toBe(text);
	},
);

test("a formula in code is code", () => {
	expect(html("`$a$` and\n\n```\n$$\nb\n$$\n```").querySelector(".math")).toBeNull();
});

test("a formula keeps its backslashes while it arrives", () => {
	const text = "So:\n\n\\[ \\frac{a}{b} \\\\ c_1 \\, d \\]";
	for (let length = 8; length <= text.length; length++) {
		const shown = html(text.slice(0, length), true).querySelector(".md")?.lastElementChild
			?.textContent;
		expect(shown?.trim()).toBe(text.slice(5, length).trim());
		cleanup();
	}
});

test("line breaks of an answer are kept", () => {
	expect(html("Step 1\nStep 2\nStep 3").querySelectorAll("br")).toHaveLength(2);
	expect(html("- a\n  b").querySelectorAll("li br")).toHaveLength(1);
});

test("each block has the direction of its first letter", () => {
	const container = html(
		"OK! Fine.\n\nمرحبا بكم.\n\n- one\n- واحد\n\n> اقتباس\n\n| اسم | x |\n|---|---|\n| ا | b |\n\n# عنوان",
	);
	const of = (selector: string) =>
		[...container.querySelectorAll(selector)].map((element) => element.getAttribute("dir"));
	expect(of(".md > p")).toEqual(["auto", "auto"]);
	expect(of("li")).toEqual(["ltr", "rtl"]);
	expect(of("blockquote")).toEqual(["rtl"]);
	expect(of(".table")).toEqual(["rtl"]);
	expect(of("td")).toEqual(["auto", "auto"]);
	expect(of("h4")).toEqual(["auto"]);
});
