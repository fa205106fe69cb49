/** `localStorage`, which a sandboxed frame does not have, and which may be full: then nothing is kept beyond this page. */
export function stored(key: string): string | null {
	try {
		return localStorage.getItem(key);
	} catch {
		return null;
	}
}

export function store(key: string, value: string | null) {
	try {
		if (value === null) localStorage.removeItem(key);
		else localStorage.setItem(key, value);
	} catch {
		// Kept in memory alone.
	}
}
