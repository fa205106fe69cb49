import { Lexer, type MarkedOptions, type Token, Tokenizer, type Tokens } from "marked";

/*
 * Reads Markdown into tokens, with bounds: whatever a message holds, reading it neither overflows the stack nor takes longer than in
 * proportion to its length. What is beyond a bound becomes a token `plain`, which is shown as it was written.
 */

/** Quotes and lists inside each other, and marks such as `**` inside each other. People nest a handful. */
const DEEPEST_BLOCK = 12;
const DEEPEST_INLINE = 24;
/** Characters of one paragraph or cell that are searched for marks. */
const LONGEST_INLINE = 20_000;
/** How far from its opening mark a closing mark is searched, and how many opening marks of one text are tried at all. */
const LONGEST_EMPHASIS = 2_000;
const MOST_EMPHASES = 10_000;
/** Characters of a message that are formatted, and blocks. */
const LONGEST = 100_000;
const MOST_BLOCKS = 5_000;
/** Characters of one formula, and of one between single dollar signs. */
const LONGEST_FORMULA = 10_000;
const LONGEST_DOLLARS = 500;

/** Text that is shown as it was written: beyond a bound, or mathematics, in which a backslash is a backslash. */
export interface Verbatim {
	type: "plain" | "math";
	raw: string;
}

const plain = (raw: string) => ({ type: "plain", raw }) as unknown as Tokens.Space;

class BoundedTokenizer extends Tokenizer {
	#depth = 0;
	#blocks = 0;
	#inlines = 0;
	#emphases = 0;

	/** Is tried first at the start of each block: there text beyond a bound is taken as a whole. */
	override space(src: string): Tokens.Space | undefined {
		const beyond = this.#depth >= DEEPEST_BLOCK || ++this.#blocks > MOST_BLOCKS;
		return beyond && src.trim() !== "" ? plain(src) : super.space(src);
	}

	/** A line of `=` or `-` in a formula makes no heading of what stands before. */
	override lheading(src: string) {
		const heading = super.lheading(src);
		return heading && (interruption(src) ?? heading.raw.length) >= heading.raw.length
			? heading
			: undefined;
	}

	override blockquote(src: string) {
		return this.#inBlock(() => super.blockquote(src));
	}

	override list(src: string) {
		return this.#inBlock(() => super.list(src));
	}

	override emStrong(src: string, masked: string, before?: string) {
		if (++this.#emphases > MOST_EMPHASES) return undefined;
		const near = src.slice(0, LONGEST_EMPHASIS);
		return this.#inInline(() =>
			super.emStrong(near, masked.slice(-src.length).slice(0, near.length), before),
		);
	}

	override del(src: string, masked: string, before?: string) {
		if (++this.#emphases > MOST_EMPHASES) return undefined;
		const near = src.slice(0, LONGEST_EMPHASIS);
		return this.#inInline(() =>
			super.del(near, masked.slice(-src.length).slice(0, near.length), before),
		);
	}

	override link(src: string) {
		return this.#inInline(() => super.link(src));
	}

	override reflink(src: string, links: Parameters<Tokenizer["reflink"]>[1]) {
		return this.#inInline(() => super.reflink(src, links));
	}

	#inBlock<T>(read: () => T): T {
		this.#depth++;
		try {
			return read();
		} finally {
			this.#depth--;
		}
	}

	#inInline<T>(read: () => T): T | undefined {
		if (this.#inlines >= DEEPEST_INLINE) return undefined;
		this.#inlines++;
		try {
			return read();
		} finally {
			this.#inlines--;
		}
	}
}

class BoundedLexer extends Lexer {
	#source = "";

	constructor(live: boolean) {
		super({
			...options(live),
			hooks: { emStrongMask: (masked: string) => withoutFormulas(masked, this.#source, live) },
		} as MarkedOptions);
	}

	override inlineTokens(src: string, tokens: Token[] = []): Token[] {
		if (src.length > LONGEST_INLINE) {
			tokens.push(plain(src));
			return tokens;
		}
		const around = this.#source;
		this.#source = src;
		try {
			return super.inlineTokens(src, tokens);
		} finally {
			this.#source = around;
		}
	}
}

/** Hides the formulas of `source` where marks of emphasis are searched. */
function withoutFormulas(masked: string, source: string, live: boolean): string {
	if (masked.length !== source.length || !/\$|\\[([b]/.test(source)) return masked;
	let hidden = "";
	for (const opening of source.matchAll(/`+|\\[\s\S]|\$+/g)) {
		if (opening.index < hidden.length || opening[0].startsWith("`")) continue;
		const length = formulaEnd(source.slice(opening.index, opening.index + LONGEST_FORMULA), live);
		if (length > 0) hidden += masked.slice(hidden.length, opening.index) + "+".repeat(length);
	}
	return hidden + masked.slice(hidden.length);
}

/** The end of a formula that begins at the start of `src`; 0 if none does. */
function formulaEnd(src: string, live: boolean): number {
	const near = src.slice(0, LONGEST_FORMULA);
	const environment = /^\\begin\{([a-zA-Z]+\*?)\}/.exec(near);
	const opening = environment?.[0] ?? /^(?:\$\$|\\\[|\\\()/.exec(near)?.[0];
	if (opening) {
		const closing = environment
			? `\\end{${environment[1]}}`
			: { $$: "$$", "\\[": "\\]", "\\(": "\\)" }[opening as "$$" | "\\[" | "\\("];
		const at = near.indexOf(closing, opening.length);
		if (at >= 0) return at === opening.length ? 0 : at + closing.length;
		// A formula that is being written is one already.
		return live && near.length === src.length ? src.length : 0;
	}
	// As in Pandoc: no space inside the dollar signs and no digit after them, so that prices are prices.
	return (
		/^\$(?![\s$])(?:\\[\s\S]|[^\\$`\n]|\n(?!\s*\n))*?(?:\\[\s\S]|[^\\\s$`])\$(?!\d)/.exec(
			near.slice(0, LONGEST_DOLLARS),
		)?.[0].length ?? 0
	);
}

const OPENING_BLOCK = /\n {0,3}(?=\$\$|\\\[|\\begin\{)/;

/** Where a formula may interrupt the paragraph that `src` begins with. */
function interruption(src: string): number | undefined {
	const end = src.indexOf("\n\n");
	return OPENING_BLOCK.exec(src.slice(0, end < 0 ? LONGEST_INLINE : Math.min(end, LONGEST_INLINE)))
		?.index;
}

function options(live: boolean): MarkedOptions {
	const math = (length: number, src: string) =>
		length > 0 ? { type: "math", raw: src.slice(0, length) } : undefined;
	return {
		gfm: true,
		breaks: true,
		tokenizer: new BoundedTokenizer(),
		extensions: {
			renderers: {},
			childTokens: {},
			inline: [(src) => (/^[$\\]/.test(src) ? math(formulaEnd(src, live), src) : undefined)],
			// Text ends at a backslash anyway.
			startInline: [(src) => (src.includes("$") ? src.indexOf("$") : undefined)],
			block: [
				(src) => {
					const [indent] = /^ {0,3}(?=\$\$|\\\[|\\begin\{)/.exec(src) ?? [];
					if (indent === undefined) return undefined;
					const length = formulaEnd(src.slice(indent.length), live);
					// Words behind it make it a part of a paragraph.
					const rest = /^[ \t]*(?:\n|$)/.exec(src.slice(indent.length + length));
					return length > 0 && rest
						? math(indent.length + length + rest[0].length, src)
						: undefined;
				},
			],
			startBlock: [interruption],
		},
	} as MarkedOptions;
}

/** The tokens of a text; their `raw` put together is the text. `live`: its end is still being written. */
export function readMarkdown(text: string, live = false): Token[] {
	const formatted =
		text.length <= LONGEST ? text : text.slice(0, text.lastIndexOf("\n", LONGEST) + 1 || LONGEST);
	const tokens: Token[] = new BoundedLexer(live).lex(formatted);
	if (formatted.length < text.length) tokens.push(plain(text.slice(formatted.length)));
	return tokens;
}

/** Whether any part of it is beyond a bound. */
export function isLimited(tokens: Token[]): boolean {
	return tokens.some((token) => {
		if ((token.type as string) === "plain") return true;
		const inner = token as {
			tokens?: Token[];
			items?: Token[];
			header?: Tokens.TableCell[];
			rows?: Tokens.TableCell[][];
		};
		const cells = [...(inner.header ?? []), ...(inner.rows ?? []).flat()];
		return [inner.tokens, inner.items, ...cells.map((cell) => cell.tokens)].some(
			(list) => list && isLimited(list),
		);
	});
}

/** Whether a text ends with a formula, which may still be written. */
export function endsInFormula(token: Token): boolean {
	if ((token.type as string) === "math") return true;
	const inner = token as { tokens?: Token[]; items?: Token[] };
	const last = (inner.items ?? inner.tokens)?.at(-1);
	return last !== undefined && endsInFormula(last);
}
