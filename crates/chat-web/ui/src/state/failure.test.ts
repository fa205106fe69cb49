import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { failure } from "./failure";
import { emptyTurn } from "./turn";

const of = (code: string) =>
	failure({ ...emptyTurn("t", "failed"), error: { code, message: "" } }, "Atlas");

test("every failure of a turn has a description of its own and says that the message is saved", () => {
	const errors = readFileSync(join(import.meta.dirname, "../../../../../docs/errors.md"), "utf8");
	const [, list = ""] = /A turn can end with ([^.]+)\./.exec(errors) ?? [];
	const named = [...list.matchAll(/`(\w+)(…?)`/g)].map(
		([, name, more]) => new RegExp(`^${name}${more ? "" : "$"}`),
	);
	const codes = [...errors.matchAll(/^\| \d+ \| `(\w+)`/gm)]
		.map(([, code = ""]) => code)
		.filter((code) => named.some((name) => name.test(code)));
	expect(codes).toHaveLength(12);
	const other = of("unknown_code");
	expect(other.description).toBe("Atlas could not answer.");
	for (const code of codes) expect(of(code).description, code).not.toBe(other.description);
	for (const code of [...codes, "unknown_code"])
		expect(of(code).advice, code).toMatch(/^Your message .*(is|are) saved\. .+\.$/);
});
