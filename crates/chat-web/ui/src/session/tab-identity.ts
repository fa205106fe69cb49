import { randomId } from "./random-id";

const NAME = "chat.tab";
const LIVE = "chat.tab-live";

/** The identity of a browser tab, which a reload keeps. */
export interface TabIdentity {
	name: string;
	/** The name of the tab that this one was duplicated from. */
	duplicateOf: string | null;
}

/** Runs an access to `sessionStorage`, which a sandboxed frame does not have. */
function access<T>(use: (storage: Storage) => T): T | null {
	try {
		return use(sessionStorage);
	} catch {
		return null;
	}
}

/**
 * Reads or creates the identity of this tab, and keeps it up to date. A duplicated tab inherits the
 * session storage of a tab that is still open; it gets a name of its own.
 */
export function identifyTab(): TabIdentity {
	const stored = access((storage) => storage.getItem(NAME));
	const isOpenElsewhere = access((storage) => storage.getItem(LIVE)) !== null;
	const identity =
		stored !== null && !isOpenElsewhere
			? { name: stored, duplicateOf: null }
			: { name: randomId(), duplicateOf: isOpenElsewhere ? stored : null };
	const markOpen = () =>
		access((storage) => {
			storage.setItem(NAME, identity.name);
			storage.setItem(LIVE, "yes");
		});
	markOpen();
	addEventListener("pageshow", markOpen);
	addEventListener("pagehide", () => access((storage) => storage.removeItem(LIVE)));
	return identity;
}
