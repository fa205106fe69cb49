/*
 * JSON that keeps all digits of numbers that JavaScript cannot represent. Browsers before 2025 do
 * not give access to a number's text; they round such numbers.
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
		// Calling the reviver for deeply nested values overflows the stack.
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

/**
 * Writes a value on one line without recursion, for values nested too deeply for `JSON.stringify`.
 */
function writeFlat(value: unknown): string {
	const pieces: string[] = [];
	/** The texts and values that are left to write, the next one last. */
	const rest: ({ text: string } | { value: unknown })[] = [{ value }];
	for (let next = rest.pop(); next; next = rest.pop()) {
		if ("text" in next) {
			pieces.push(next.text);
			continue;
		}
		const { value: current } = next;
		if (typeof current !== "object" || current === null || "rawJSON" in current) {
			pieces.push(JSON.stringify(current) ?? "null");
			continue;
		}
		const list = Array.isArray(current);
		const members = list ? current.map((member) => ["", member] as const) : Object.entries(current);
		rest.push({ text: list ? "]" : "}" });
		for (const [index, [name, member]] of [...members.entries()].reverse()) {
			rest.push(
				{ value: member },
				{ text: `${index > 0 ? ", " : ""}${list ? "" : `${JSON.stringify(name)}: `}` },
			);
		}
		rest.push({ text: list ? "[" : "{" });
	}
	return pieces.join("");
}
