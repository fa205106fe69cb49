/*
 * Parameters and results are shown as they were written: a number that JavaScript cannot hold keeps its digits.
 * Browsers that do not give a number's text yet (before 2025) show such numbers rounded.
 */
interface Exact {
	rawJSON?: (text: string) => unknown;
}
type Reviver = (key: string, value: unknown, context?: { source?: string }) => unknown;

const rawJSON = (JSON as Exact).rawJSON;

const exact: Reviver = (_key, value, context) =>
	typeof value === "number" &&
	rawJSON &&
	context?.source !== undefined &&
	String(value) !== context.source
		? rawJSON(context.source)
		: value;

export function readJson(text: string): unknown {
	try {
		return JSON.parse(text, exact as (key: string, value: unknown) => unknown);
	} catch (error) {
		// Nested so deeply that a function that is called for each value overflows the stack.
		if (error instanceof RangeError) return JSON.parse(text);
		throw error;
	}
}

export function writeJson(value: unknown): string {
	try {
		return JSON.stringify(value, null, 2) ?? "";
	} catch (error) {
		if (error instanceof RangeError) return writeFlat(value);
		throw error;
	}
}

/** Writes values that are nested so deeply that they overflow the stack: on one line. */
function writeFlat(value: unknown): string {
	const pieces: string[] = [];
	/** What is to be written, the next one last; text stands for itself. */
	const rest: ({ text: string } | { value: unknown })[] = [{ value }];
	for (let next = rest.pop(); next; next = rest.pop()) {
		if ("text" in next) {
			pieces.push(next.text);
			continue;
		}
		const { value: one } = next;
		if (typeof one !== "object" || one === null || "rawJSON" in one) {
			pieces.push(JSON.stringify(one) ?? "null");
			continue;
		}
		const list = Array.isArray(one);
		const members = list ? one.map((member) => ["", member] as const) : Object.entries(one);
		rest.push({ text: list ? "]" : "}" });
		for (const [at, [name, member]] of [...members.entries()].reverse()) {
			rest.push(
				{ value: member },
				{ text: `${at > 0 ? ", " : ""}${list ? "" : `${JSON.stringify(name)}: `}` },
			);
		}
		rest.push({ text: list ? "[" : "{" });
	}
	return pieces.join("");
}
