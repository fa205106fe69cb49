const RIGHT_TO_LEFT =
	/\p{Script=Arabic}|\p{Script=Hebrew}|\p{Script=Syriac}|\p{Script=Thaana}|\p{Script=Nko}|\p{Script=Adlam}/u;

/**
 * The direction of a text by its first letter, as `dir=auto` determines it. `dir=auto` itself skips
 * elements with a `dir` of their own, so it would ignore the text of a list or a table.
 */
export function textDirection(text: string): "ltr" | "rtl" {
	const letter = /\p{L}/u.exec(text)?.[0];
	return letter && RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr";
}
