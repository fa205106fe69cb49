const RIGHT_TO_LEFT =
	/\p{Script=Arabic}|\p{Script=Hebrew}|\p{Script=Syriac}|\p{Script=Thaana}|\p{Script=Nko}|\p{Script=Adlam}/u;

/**
 * The direction of a text by its first letter, as `dir=auto` finds it. `dir=auto` itself does not look into elements that have a
 * direction of their own, so it finds nothing in a list or a table whose parts have one.
 */
export function direction(text: string): "ltr" | "rtl" {
	const letter = /\p{L}/u.exec(text)?.[0];
	return letter && RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr";
}
