import { cleanup, render } from "@testing-library/preact";
import { afterEach, expect, test } from "vitest";
import type { PageSettings } from "../api/types";
import { settings } from "../session/session";
import { decode, Markdown, safeHref } from "./markdown";

afterEach(() => {
	cleanup();
	settings.value = null;
});

const html = (text: string, live = false) => render(<Markdown text={text} live={live} />).container;

const SAMPLES = [
	"1. a\n2. b\n\n   c\n3. d\n\n```js\nx\n```\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n\n# H\n\n### I\n\ntext **bold _it_** `c` ~~d~~",
	'> quote\n> - [ ] open\n> - [x] done\n\nline  \nbreak\n\n---\n\n    indented\n\n[link](https://a.test "t") ![p](https://a.test/p.png)',
	"a [ref] b\n\n[ref]: https://a.test\n\n<b>raw</b> &amp; &#x3c;script&#x3e; \\*no\\*",
	"```rust\nfn main() {}\n```\n\nتجربة **عربي**",
	"a\r\nb\r\n\r\n# c\r\n\r\n- d\r\n- e\r\n\r\nf\r\n\r\ng",
	"So:\n\n\\[ a \\\\ b_1 \\]\n\nand $x_1$ and $$y\n= z$$\n\nend",
];

test("nothing unsafe becomes an element or an address", () => {
	const container = html(
		[
			"[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html,x) [d](vbscript:x) [e](java\tscript:alert(1))",
			"[f](&#106;avascript:alert(1)) [g](//evil.test) <svg onload=alert(1)> <img src=x onerror=alert(1)>",
			'![i](https://x.test/p.png) [ok](https://ok.test "\'onmouseover=alert(1)")',
			"",
			'<script>alert(1)</script><iframe src="javascript:alert(1)"></iframe>',
			"",
			"<javascript:alert(1)> <https://auto.test>",
		].join("\n"),
	);
	const links = [...container.querySelectorAll("a")];
	expect(
		links.every(
			(link) => /^https?:/.test(link.href) && link.rel === "noopener noreferrer nofollow",
		),
	).toBe(true);
	expect(
		container.querySelector("svg, img, script, iframe, [onload], [onerror], [onmouseover]"),
	).toBeNull();
	expect(container.textContent).toContain("<img src=x onerror=alert(1)>");
});

test("addresses are parsed as browsers parse them", () => {
	for (const bad of [
		"javascript:x",
		"jav&#x61;script:x",
		"data:x",
		"blob:x",
		"file:///x",
		" javascript:x",
		"http://[",
	]) {
		expect(safeHref(bad), bad).toBeNull();
	}
	expect(safeHref("mailto:a@b.test")).toBe("mailto:a@b.test");
});

test("entities that are not characters are replaced", () => {
	expect(decode("&lt;&#60;&#x3C;&unknown;&#0;&#xD800;&#1114112;")).toBe(
		"<<<&unknown;\ufffd\ufffd\ufffd",
	);
});

test("pictures are shown from allowed origins only", () => {
	settings.value = { images: ["https://pictures.test"] } as PageSettings;
	const container = html(
		"![a](https://pictures.test/a.png) ![b](https://pictures.test.evil.test/b.png) ![c](http://pictures.test/c.png)",
	);
	expect([...container.querySelectorAll("img")].map((image) => image.src)).toEqual([
		"https://pictures.test/a.png",
	]);
	expect(container.querySelectorAll("a")).toHaveLength(2);
});

test("text that arrives in pieces ends up the same as the whole text", () => {
	for (const text of SAMPLES) {
		const whole = html(text).innerHTML;
		cleanup();
		const { container, rerender } = render(<Markdown text="" live />);
		for (let length = 0; length <= text.length; length += 3)
			rerender(<Markdown text={text.slice(0, length)} live />);
		rerender(<Markdown text={text} />);
		expect(container.innerHTML).toBe(whole);
		cleanup();
	}
});

test("text that is cut anywhere is displayed", () => {
	for (const text of SAMPLES) {
		for (let length = 1; length < text.length; length++) {
			expect(html(text.slice(0, length), true).firstElementChild?.className).toBe("md live");
			cleanup();
		}
	}
});

test("headings continue the outline of the page, whatever their depth", () => {
	const container = html("### First\n\n# Second\n\n##### Third");
	expect([...container.querySelectorAll("h4, h5, h6")].map((heading) => heading.tagName)).toEqual([
		"H5",
		"H4",
		"H6",
	]);
});
