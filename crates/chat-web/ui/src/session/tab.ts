import { unique } from "./unique";

const NAME = "chat.tab";
const LIVE = "chat.tab-live";

/** `sessionStorage`, which a sandboxed frame does not have. */
function access<T>(use: (storage: Storage) => T): T | null {
	try {
		return use(sessionStorage);
	} catch {
		return null;
	}
}

/**
 * The name of this tab, which a reload keeps. A tab that was duplicated gets the storage of a tab that lives, and takes a name of its
 * own; then `copied` is the other's.
 */
function identify(): { name: string; copied: string | null } {
	const kept = access((storage) => storage.getItem(NAME));
	const live = access((storage) => storage.getItem(LIVE)) !== null;
	const name = kept !== null && !live ? kept : unique();
	return { name, copied: live ? kept : null };
}

export const tab = identify();

const enter = () =>
	access((storage) => {
		storage.setItem(NAME, tab.name);
		storage.setItem(LIVE, "yes");
	});
enter();
addEventListener("pageshow", enter);
addEventListener("pagehide", () => access((storage) => storage.removeItem(LIVE)));
