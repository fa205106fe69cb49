import { expect, test } from "vitest";
import { bareToken, readToken } from "./token";

const token = (claims: unknown) =>
	`x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;

test("a token has a user id, a name and an expiry", () => {
	const text = token({ sub: "jürgen?>", exp: 1_800_000_000, name: "Jürgen 😀" });
	expect(readToken(text)).toEqual({
		text,
		user: "jürgen?>",
		name: "Jürgen 😀",
		expires: 1_800_000_000_000,
	});
	expect(readToken(token({ sub: "ann", exp: 1 }))?.name).toBe("ann");
});

test("other texts are not tokens", () => {
	for (const text of [
		"",
		"x",
		"a.b.c",
		"a.!!.c",
		token(null),
		token({ sub: "ann" }),
		token({ exp: 1 }),
		token({ sub: 7, exp: 1 }),
	]) {
		expect(readToken(text), text).toBeNull();
	}
});

test("a token is extracted from a pasted text", () => {
	const token = "aaa.bbb-_.ccc";
	for (const pasted of [
		token,
		` ${token}\n`,
		`Bearer ${token}`,
		`bearer   ${token}`,
		`Authorization: Bearer ${token}`,
		`"${token}"`,
		`'Bearer ${token}'`,
		"aaa.bbb\n-_.ccc",
	]) {
		expect(bareToken(pasted), pasted).toBe(token);
	}
});
