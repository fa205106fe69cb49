/** Persistent texts by key. */
export interface KeyValueStore {
	get(key: string): string | null;
	/** `null` deletes the key. */
	set(key: string, value: string | null): void;
	keys(): string[];
}

/**
 * `localStorage`. A sandboxed frame has none and it may be full: then nothing outlives this page,
 * and nothing throws.
 */
export const browserStorage: KeyValueStore = {
	get: (key) => attempt(() => localStorage.getItem(key)) ?? null,
	set: (key, value) => {
		attempt(() =>
			value === null ? localStorage.removeItem(key) : localStorage.setItem(key, value),
		);
	},
	keys: () => attempt(() => Object.keys(localStorage)) ?? [],
};

function attempt<T>(access: () => T): T | undefined {
	try {
		return access();
	} catch {
		return undefined;
	}
}
