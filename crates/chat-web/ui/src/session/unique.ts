/** 128 bits of chance. (`crypto.randomUUID` is there only on pages over HTTPS.) */
export function unique(): string {
	return [...crypto.getRandomValues(new Uint8Array(16))]
		.map((byte) => byte.toString(16).padStart(2, "0"))
		.join("");
}
