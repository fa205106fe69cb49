/**
 * A random id of 128 bits, in hexadecimal. (`crypto.randomUUID` exists only on pages over HTTPS.)
 */
export function randomId(): string {
	return [...crypto.getRandomValues(new Uint8Array(16))]
		.map((byte) => byte.toString(16).padStart(2, "0"))
		.join("");
}
