import type { ElementContent, RootContent } from "hast";
import type { ComponentChild } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { CopyButton } from "./copy-button";

type Highlighter = typeof import("./highlight");
let highlighter: Highlighter | null = null;
let loading: Promise<Highlighter> | undefined;

/** Loads the highlighter, which is large, when the first code is displayed. */
function loadHighlighter(): Promise<Highlighter> {
	loading ??= import("./highlight").then((loaded) => {
		highlighter = loaded;
		return loaded;
	});
	return loading;
}

function useHighlighter(): Highlighter | null {
	const [loaded, setLoaded] = useState(highlighter);
	useEffect(() => {
		// Without a highlighter, code stays plain text.
		if (!loaded) loadHighlighter().then(setLoaded, () => {});
	}, [loaded]);
	return loaded;
}

function elements(nodes: (RootContent | ElementContent)[]): ComponentChild[] {
	return nodes.map((node, key) => {
		if (node.type === "text") return node.value;
		if (node.type !== "element") return null;
		const names = node.properties.className;
		return (
			<span key={key} class={Array.isArray(names) ? names.join(" ") : undefined}>
				{elements(node.children)}
			</span>
		);
	});
}

const MAX_DEPTH = 40;

/** Whether elements are nested so deeply that creating them could overflow the stack. */
function isDeep(nodes: (RootContent | ElementContent)[]): boolean {
	let level = nodes;
	for (let depth = 0; level.length > 0; depth++) {
		if (depth > MAX_DEPTH) return true;
		level = level.flatMap((node) => (node.type === "element" ? node.children : []));
	}
	return false;
}

/** Highlighted code; plain text if highlighting fails. */
function highlighted(by: Highlighter, lang: string, text: string): ComponentChild {
	try {
		const { children } = by.highlight(lang, text);
		return isDeep(children) ? text : elements(children);
	} catch {
		return text;
	}
}

/**
 * Longer code stays plain, in characters. The limit is lower while code arrives, because each piece
 * causes all of it to be highlighted again.
 */
const MAX_LENGTH = 60_000;
const MAX_OPEN_LENGTH = 6_000;

export function Code({ text, lang, open = false }: { text: string; lang: string; open?: boolean }) {
	const loaded = useHighlighter();
	const content = useMemo(() => {
		if (!loaded?.isKnown(lang) || text.length >= (open ? MAX_OPEN_LENGTH : MAX_LENGTH)) return text;
		return highlighted(loaded, lang, text);
	}, [loaded, lang, text, open]);
	return <code class={`language-${lang || "text"}`}>{content}</code>;
}

export function CodeBlock({
	text,
	lang,
	open = false,
}: {
	text: string;
	lang: string;
	open?: boolean;
}) {
	const name = /^[\w+#.-]*/.exec(lang)?.[0].toLowerCase() || "text";
	return (
		<figure class="code" dir="ltr">
			<figcaption>
				<span>{name}</span>
				<CopyButton text={() => text} label="Copy code" />
			</figcaption>
			<pre tabIndex={0} role="group" aria-label={`${name}, code`}>
				<Code text={text} lang={name} open={open} />
			</pre>
		</figure>
	);
}
