import { Lexer, type MarkedOptions, type Token, Tokenizer, type Tokens } from "marked";

/*
 * Parses Markdown into tokens with bounded work: no message overflows the stack or takes more than
 * linear time. Text beyond a bound becomes a `plain` token, which is shown without formatting.
 */

/** The greatest depth of nested quotes and lists, and of nested marks such as `**`. */
const MAX_BLOCK_DEPTH = 12;
const MAX_INLINE_DEPTH = 24;
/** Characters of one paragraph or cell that are searched for marks. */
const MAX_INLINE_LENGTH = 20_000;
/** The greatest distance between opening and closing marks, and how many openings are tried. */
const MAX_EMPHASIS_LENGTH = 2_000;
const MAX_EMPHASES = 10_000;
/** Characters and blocks of a message that are formatted. */
const MAX_LENGTH = 100_000;
const MAX_BLOCKS = 5_000;
/** Characters of a formula, and of a formula between single dollar signs. */
const MAX_FORMULA_LENGTH = 10_000;
const MAX_DOLLAR_FORMULA_LENGTH = 500;

/** Text without formatting: beyond a bound, or a formula. */
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

	/** The first tokenizer that is tried for each block; it takes text beyond a bound as a whole. */
	override space(src: string): Tokens.Space | undefined {
		const beyond = this.#depth >= MAX_BLOCK_DEPTH || ++this.#blocks > MAX_BLOCKS;
		return beyond && src.trim() !== "" ? plain(src) : super.space(src);
	}

	/** A line of `=` or `-` within a formula does not turn the text before it into a heading. */
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
		if (++this.#emphases > MAX_EMPHASES) return undefined;
		const near = src.slice(0, MAX_EMPHASIS_LENGTH);
		return this.#inInline(() =>
			super.emStrong(near, masked.slice(-src.length).slice(0, near.length), before),
		);
	}

	override del(src: string, masked: string, before?: string) {
		if (++this.#emphases > MAX_EMPHASES) return undefined;
		const near = src.slice(0, MAX_EMPHASIS_LENGTH);
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
		if (this.#inlines >= MAX_INLINE_DEPTH) return undefined;
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
		if (src.length > MAX_INLINE_LENGTH) {
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

/** Masks the formulas of `source`, so that no mark of emphasis is found in them. */
function withoutFormulas(masked: string, source: string, live: boolean): string {
	if (masked.length !== source.length || !/\$|\\[([b]/.test(source)) return masked;
	let hidden = "";
	for (const opening of source.matchAll(/`+|\\[\s\S]|\$+/g)) {
		if (opening.index < hidden.length || opening[0].startsWith("`")) continue;
		const length = formulaEnd(
			source.slice(opening.index, opening.index + MAX_FORMULA_LENGTH),
			live,
		);
		if (length > 0) hidden += masked.slice(hidden.length, opening.index) + "+".repeat(length);
	}
	return hidden + masked.slice(hidden.length);
}

/** The length of the formula at the start of `src`; 0 if there is none. */
function formulaEnd(src: string, live: boolean): number {
	const near = src.slice(0, MAX_FORMULA_LENGTH);
	const environment = /^\\begin\{([a-zA-Z]+\*?)\}/.exec(near);
	const opening = environment?.[0] ?? /^(?:\$\$|\\\[|\\\()/.exec(near)?.[0];
	if (opening) {
		const closing = environment
			? `\\end{${environment[1]}}`
			: { $$: "$$", "\\[": "\\]", "\\(": "\\)" }[opening as "$$" | "\\[" | "\\("];
		const at = near.indexOf(closing, opening.length);
		if (at >= 0) return at === opening.length ? 0 : at + closing.length;
		// The end of the formula may still arrive.
		return live && near.length === src.length ? src.length : 0;
	}
	// As in Pandoc, no space inside the dollar signs and no digit behind them: otherwise prices
	// would be formulas.
	return (
		/^\$(?![\s$])(?:\\[\s\S]|[^\\$`\n]|\n(?!\s*\n))*?(?:\\[\s\S]|[^\\\s$`])\$(?!\d)/.exec(
			near.slice(0, MAX_DOLLAR_FORMULA_LENGTH),
		)?.[0].length ?? 0
	);
}

const OPENING_BLOCK = /\n {0,3}(?=\$\$|\\\[|\\begin\{)/;

/** The index at which a formula may interrupt the paragraph at the start of `src`. */
function interruption(src: string): number | undefined {
	const end = src.indexOf("\n\n");
	return OPENING_BLOCK.exec(
		src.slice(0, end < 0 ? MAX_INLINE_LENGTH : Math.min(end, MAX_INLINE_LENGTH)),
	)?.index;
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
			// Marked ends a text at a backslash by itself.
			startInline: [(src) => (src.includes("$") ? src.indexOf("$") : undefined)],
			block: [
				(src) => {
					const [indent] = /^ {0,3}(?=\$\$|\\\[|\\begin\{)/.exec(src) ?? [];
					if (indent === undefined) return undefined;
					const length = formulaEnd(src.slice(indent.length), live);
					// A formula with text behind it belongs to a paragraph.
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

/** Parses a text. The `raw` texts of the tokens make up the text. `live`: more of it may arrive. */
export function readMarkdown(text: string, live = false): Token[] {
	const formatted =
		text.length <= MAX_LENGTH
			? text
			: text.slice(0, text.lastIndexOf("\n", MAX_LENGTH) + 1 || MAX_LENGTH);
	const tokens: Token[] = new BoundedLexer(live).lex(formatted);
	if (formatted.length < text.length) tokens.push(plain(text.slice(formatted.length)));
	return tokens;
}

/** Whether any part of the text is beyond a bound. */
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

/** Whether a token ends with a formula, whose end may still arrive. */
export function endsInFormula(token: Token): boolean {
	if ((token.type as string) === "math") return true;
	const inner = token as { tokens?: Token[]; items?: Token[] };
	const last = (inner.items ?? inner.tokens)?.at(-1);
	return last !== undefined && endsInFormula(last);
}
