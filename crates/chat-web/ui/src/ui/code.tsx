import type { ElementContent, RootContent } from "hast";
import type { ComponentChild } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { CopyButton } from "./bits";

/** Comes with the first code that is shown. */
type Engine = typeof import("./highlight");
let engine: Engine | null = null;
let loading: Promise<Engine> | undefined;

function load(): Promise<Engine> {
	loading ??= import("./highlight").then((loaded) => {
		engine = loaded;
		return loaded;
	});
	return loading;
}

function useEngine(): Engine | null {
	const [ready, setReady] = useState(engine);
	useEffect(() => {
		// Without it code is plain text.
		if (!ready) load().then(setReady, () => {});
	}, [ready]);
	return ready;
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

const DEEPEST = 40;

/** Whether elements stand inside each other so deeply that making them could overflow the stack. */
function isDeep(nodes: (RootContent | ElementContent)[]): boolean {
	let level = nodes;
	for (let depth = 0; level.length > 0; depth++) {
		if (depth > DEEPEST) return true;
		level = level.flatMap((node) => (node.type === "element" ? node.children : []));
	}
	return false;
}

/** Code in colours; plain where they cannot be told. */
function coloured(by: Engine, lang: string, text: string): ComponentChild {
	try {
		const { children } = by.highlight(lang, text);
		return isDeep(children) ? text : elements(children);
	} catch {
		return text;
	}
}

/** Longer code stays plain, in characters; the limit is lower while it grows, for all of it is coloured again each time. */
const LONGEST = 60_000;
const LONGEST_OPEN = 6_000;

export function Code({ text, lang, open = false }: { text: string; lang: string; open?: boolean }) {
	const ready = useEngine();
	const content = useMemo(() => {
		if (!ready?.known(lang) || text.length >= (open ? LONGEST_OPEN : LONGEST)) return text;
		return coloured(ready, lang, text);
	}, [ready, lang, text, open]);
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
