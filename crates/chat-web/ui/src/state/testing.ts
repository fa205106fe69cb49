import type { KeyValueStore } from "../session/storage";
import { DraftStore } from "./draft-store";

/** A storage in memory. */
export class MemoryStorage implements KeyValueStore {
	readonly values = new Map<string, string>();

	get(key: string) {
		return this.values.get(key) ?? null;
	}

	set(key: string, value: string | null) {
		if (value === null) this.values.delete(key);
		else this.values.set(key, value);
	}

	keys() {
		return [...this.values.keys()];
	}
}

/** The drafts of a tab of the user `ann`. */
export const draftStore = (
	storage: KeyValueStore,
	tab = "tab-1",
	duplicateOf: string | null = null,
) =>
	new DraftStore({
		storage,
		tab: { name: tab, duplicateOf },
		userId: () => "ann",
		now: () => 1_800_000_000_000,
	});

/** A promise that the test settles. */
export function deferred<T>() {
	let resolve!: (value: T) => void;
	let reject!: (error: unknown) => void;
	const promise = new Promise<T>((onResolve, onReject) => {
		resolve = onResolve;
		reject = onReject;
	});
	return { promise, resolve, reject };
}
