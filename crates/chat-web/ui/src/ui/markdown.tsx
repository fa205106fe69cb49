import type { Token, Tokens } from "marked";
import { type ComponentChild, h } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import remend from "remend";
import { settings } from "../session/session";
import { CodeBlock } from "./code";
import { ErrorBoundary } from "./error-boundary";
import { endsInFormula, isLimited, readMarkdown } from "./markdown-reader";
import { PlainText } from "./plain-text";
import { textDirection } from "./text-direction";

/*
 * Markdown becomes elements, never HTML text: the page runs under `require-trusted-types-for
 * 'script'`, and HTML in a message is shown as text.
 */
const ENTITIES: Record<string, string> = {
	amp: "&",
	lt: "<",
	gt: ">",
	quot: '"',
	apos: "'",
	nbsp: "\u00a0",
	hellip: "…",
	mdash: "—",
	ndash: "–",
	copy: "©",
	rarr: "→",
	larr: "←",
	times: "×",
	deg: "°",
	euro: "€",
};
const ENTITY = /&(?:#x([\da-f]{1,6})|#(\d{1,7})|([a-z]{2,8}));/gi;

export function decode(text: string): string {
	if (!text.includes("&")) return text;
	return text.replace(ENTITY, (all, hex?: string, decimal?: string, name?: string) => {
		if (name) return ENTITIES[name] ?? all;
		const code = hex ? Number.parseInt(hex, 16) : Number(decimal);
		const isCharacter = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
		return isCharacter ? String.fromCodePoint(code) : "\ufffd";
	});
}

/** The address of a link; `null` if following it could run a script. */
export function safeHref(href: string): string | null {
	try {
		const url = new URL(decode(href), location.origin);
		return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
	} catch {
		return null;
	}
}

const REL = "noopener noreferrer nofollow";

function Link({ token }: { token: Tokens.Link }) {
	const href = safeHref(token.href);
	if (!href) return <>{inline(token.tokens)}</>;
	return (
		<a href={href} target="_blank" rel={REL} title={token.title ?? href}>
			{inline(token.tokens)}
		</a>
	);
}

/**
 * A picture from an allowed origin, else a link: loading a picture reveals to its server that the
 * message was read.
 */
function Picture({ token }: { token: Tokens.Image }) {
	const href = safeHref(token.href);
	if (!href) return <>{token.text}</>;
	if (settings.value?.images.includes(new URL(href).origin)) {
		return <img src={href} alt={token.text} loading="lazy" referrerpolicy="no-referrer" />;
	}
	return (
		<a class="img-link" href={href} target="_blank" rel={REL}>
			{token.text || "Picture"}
		</a>
	);
}

function inline(tokens: Token[] | undefined): ComponentChild[] {
	return (tokens ?? []).map((token, key) => {
		switch (token.type) {
			case "text":
				return token.tokens ? inline(token.tokens) : decode(token.text);
			case "escape":
				return token.text;
			case "strong":
				return <strong key={key}>{inline(token.tokens)}</strong>;
			case "em":
				return <em key={key}>{inline(token.tokens)}</em>;
			case "del":
				return <del key={key}>{inline(token.tokens)}</del>;
			case "codespan":
				return (
					<code key={key} dir="ltr">
						{decode(token.text)}
					</code>
				);
			case "br":
				return <br key={key} />;
			case "link":
				return <Link key={key} token={token as Tokens.Link} />;
			case "image":
				return <Picture key={key} token={token as Tokens.Image} />;
			case "checkbox":
				return (
					<input
						key={key}
						type="checkbox"
						checked={token.checked}
						disabled
						aria-label={token.checked ? "done" : "open"}
					/>
				);
			case "math":
				return (
					<span key={key} dir="ltr" class="math">
						{token.raw}
					</span>
				);
			default:
				return token.raw;
		}
	});
}

/** A tight list holds bare text, a loose one paragraphs. */
function item(list: Tokens.ListItem): ComponentChild[] {
	return list.tokens.map((token) => {
		if (token.type === "text") return inline((token as Tokens.Text).tokens ?? [token]);
		return token.type === "checkbox" ? inline([token]) : block(token);
	});
}

const aligned = (cell: Tokens.TableCell) => (cell.align ? `al-${cell.align}` : undefined);

/** Marks the edges of a table behind which cells are hidden. */
function useCutEdges() {
	const box = useRef<HTMLDivElement>(null);
	useLayoutEffect(() => {
		const element = box.current;
		if (!element || !("ResizeObserver" in window)) return;
		const mark = () => {
			const hidden = element.scrollWidth - element.clientWidth;
			const before = Math.abs(element.scrollLeft);
			element.dataset.cut =
				`${before > 1 ? "start" : ""} ${hidden - before > 1 ? "end" : ""}`.trim();
		};
		const resized = new ResizeObserver(mark);
		resized.observe(element);
		if (element.firstElementChild) resized.observe(element.firstElementChild);
		element.addEventListener("scroll", mark, { passive: true });
		return () => {
			resized.disconnect();
			element.removeEventListener("scroll", mark);
		};
	}, []);
	return box;
}

function Table({ token }: { token: Tokens.Table }) {
	return (
		<div
			class="table"
			ref={useCutEdges()}
			tabIndex={0}
			role="group"
			aria-label="Table"
			dir={textDirection(token.raw)}
		>
			<table>
				<thead>
					<tr>
						{token.header.map((cell, key) => (
							<th key={key} scope="col" dir="auto" class={aligned(cell)}>
								{inline(cell.tokens)}
							</th>
						))}
					</tr>
				</thead>
				<tbody>
					{token.rows.map((row, key) => (
						<tr key={key}>
							{row.map((cell, column) => (
								<td key={column} dir="auto" class={aligned(cell)}>
									{inline(cell.tokens)}
								</td>
							))}
						</tr>
					))}
				</tbody>
			</table>
		</div>
	);
}

/**
 * `levels`: the depths of the text's headings, sorted. The first becomes an h4, so that the outline
 * of the page has no gaps.
 */
function block(token: Token, open = false, levels = ""): ComponentChild {
	switch (token.type) {
		case "space":
		case "def":
			return null;
		case "heading": {
			const depth = Math.min(6, 4 + Math.max(0, levels.indexOf(String(token.depth))));
			return h(`h${depth}`, { class: `h${token.depth}`, dir: "auto" }, inline(token.tokens));
		}
		case "paragraph":
			return <p dir="auto">{inline(token.tokens)}</p>;
		case "text":
			return <p dir="auto">{inline((token as Tokens.Text).tokens ?? [token])}</p>;
		case "blockquote":
			return (
				<blockquote dir={textDirection(token.raw)}>
					{token.tokens?.map((inner) => block(inner))}
				</blockquote>
			);
		case "hr":
			return <hr />;
		case "code":
			return <CodeBlock text={token.text} lang={token.lang ?? ""} open={open} />;
		case "list": {
			const items = (token as Tokens.List).items.map((entry, key) => (
				<li key={key} dir={textDirection(entry.text)} class={entry.task ? "task" : undefined}>
					{item(entry)}
				</li>
			));
			return token.ordered ? (
				<ol start={typeof token.start === "number" ? token.start : 1}>{items}</ol>
			) : (
				<ul>{items}</ul>
			);
		}
		case "table":
			return <Table token={token as Tokens.Table} />;
		case "html":
			return <p class="raw">{token.raw}</p>;
		case "math":
			return (
				<p dir="ltr" class="math">
					{token.raw.trimEnd()}
				</p>
			);
		default:
			return (
				<p dir="auto" class="plain">
					{token.raw}
				</p>
			);
	}
}

/** `references`: the targets of reference links, which may be defined anywhere in the text. */
function Block({
	token,
	open,
	levels,
	references,
}: {
	token: Token;
	open: boolean;
	levels: string;
	references: string;
}) {
	return useMemo(
		() => <>{block(token, open, levels)}</>,
		[token.raw, open, token.type === "heading" ? levels : "", references],
	);
}

/** While text arrives, only its last two blocks are parsed again: earlier blocks do not change. */
function useTokens(text: string, live: boolean): Token[] {
	const last = useRef<{ text: string; tokens: Token[] }>({ text: "", tokens: [] });
	return useMemo(() => {
		const before = last.current;
		let tokens: Token[];
		if (live && before.tokens.length > 2 && text.startsWith(before.text)) {
			const kept = before.tokens.slice(0, -2);
			const length = kept.reduce((sum, token) => sum + token.raw.length, 0);
			tokens = [...kept, ...readMarkdown(text.slice(length), live)];
		} else {
			tokens = readMarkdown(text, live);
		}
		last.current = { text, tokens };
		const tail = tokens.at(-1);
		// Marks without their closing mark are displayed as if it had arrived.
		return live && tail && tail.type !== "code" && !endsInFormula(tail)
			? [...tokens.slice(0, -1), ...readMarkdown(remend(tail.raw, { katex: false }), live)]
			: tokens;
	}, [text, live]);
}

const UNFORMATTED =
	"A part of this text is too long or too deeply nested to be formatted. It is shown as plain text.";

function Formatted({ text: source, live }: { text: string; live: boolean }) {
	// The parser counts one character per line end.
	const text = useMemo(() => source.replace(/\r\n?/g, "\n"), [source]);
	const tokens = useTokens(text, live);
	const depths = tokens
		.filter((token) => token.type === "heading")
		.map((token) => (token as Tokens.Heading).depth);
	const levels = [...new Set(depths)].sort().join("");
	const references = live
		? ""
		: tokens.map((token) => (token.type === "def" ? token.raw : "")).join("");
	const limited = useMemo(() => isLimited(tokens), [tokens]);
	return (
		<div class={live ? "md live" : "md"} dir={textDirection(text)}>
			{tokens.map((token, key) => (
				<Block
					key={key}
					token={token}
					levels={levels}
					references={references}
					open={live && key === tokens.length - 1}
				/>
			))}
			{limited && <p class="note">{UNFORMATTED}</p>}
		</div>
	);
}

export function Markdown({ text, live = false }: { text: string; live?: boolean }) {
	return (
		<ErrorBoundary
			of={text}
			fallback={() => (
				<PlainText
					text={text}
					note="This text could not be formatted. It is shown as plain text."
				/>
			)}
		>
			<Formatted text={text} live={live} />
		</ErrorBoundary>
	);
}
