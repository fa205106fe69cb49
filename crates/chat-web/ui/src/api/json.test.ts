import { expect, test } from "vitest";
import { readJson, writeJson } from "./json";

/** Node.js 20 does not give access to the text of a number; browsers do. */
const exact = "rawJSON" in JSON;

test("numbers keep all their digits", () => {
	const text = '{\n  "id": 12345678901234567890,\n  "rate": 0.1,\n  "size": 1.50\n}';
	expect(writeJson(readJson(text))).toBe(
		exact ? text : '{\n  "id": 12345678901234567000,\n  "rate": 0.1,\n  "size": 1.5\n}',
	);
});

test("other values are unchanged by a round trip", () => {
	for (const value of [null, true, "x", [], {}, [1, { a: ["b"] }], "\u2028</script>"])
		expect(readJson(writeJson(value))).toEqual(value);
});

test("deeply nested values are read and written", () => {
	const text = `${'{"a":['.repeat(30_000)}1${"]}".repeat(30_000)}`;
	const value = readJson(text);
	expect(writeJson(value).replace(/\s/g, "")).toBe(text);
});
