/** The claims of a token that the page reads. Only the server verifies tokens. */
export interface Token {
	text: string;
	user: string;
	name: string;
	/** In milliseconds since 1970. */
	expires: number;
}

/**
 * Extracts a token that was pasted with a header name, `Bearer`, quotes or line breaks around it.
 */
export function bareToken(text: string): string {
	return text
		.trim()
		.replace(/^["'`]+|["'`]+$/g, "")
		.replace(/^authorization\s*:\s*/i, "")
		.replace(/^bearer\s+/i, "")
		.replace(/[\s"'`]+/g, "");
}

export function readToken(text: string): Token | null {
	try {
		const body = text.split(".")[1] ?? "";
		const bytes = Uint8Array.from(atob(body.replace(/-/g, "+").replace(/_/g, "/")), (char) =>
			char.charCodeAt(0),
		);
		const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
		if (typeof claims !== "object" || claims === null) return null;
		const { sub, name, exp } = claims as Record<string, unknown>;
		if (typeof sub !== "string" || typeof exp !== "number") return null;
		return {
			text,
			user: sub,
			name: typeof name === "string" && name !== "" ? name : sub,
			expires: exp * 1000,
		};
	} catch {
		return null;
	}
}
