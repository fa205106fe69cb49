import { effect, signal } from "@preact/signals";
import type { PageSettings, Problem } from "../api/types";
import { store, stored } from "./storage";
import { bareToken, readToken, type Token } from "./token";
import { unique } from "./unique";

/*
 * Who uses the page. A token that the page got itself is kept in `localStorage`, so that other tabs and reloads have it; one that an
 * embedding page gave stays in memory alone, for that page gives it again.
 */
const KEPT = "chat.token";
const STATE = "chat.sign-in-state";

export const settings = signal<PageSettings | null>(null);
export const token = signal<Token | null>(null);
/** Why nobody is signed in, if somebody was or tried to be. */
export const signInTrouble = signal<string | null>(null);
export const starting = signal(true);
export const startTrouble = signal<string | null>(null);
export const embedded = parent !== window;

/** Asks the embedding page for a token, once there is a way to. */
let askHost: (() => void) | undefined;
export function onTokenNeeded(ask: () => void) {
	askHost = ask;
}

export function authorization(): Record<string, string> {
	return token.peek() ? { authorization: `Bearer ${token.peek()!.text}` } : {};
}

/** The user, also while their sign-in has expired. */
export const userId = () => token.peek()?.user ?? lastUser ?? "";

/** Takes a token into use. `keep`: for other tabs and reloads too. */
export function signIn(text: string, keep: boolean): boolean {
	const read = readToken(bareToken(text));
	if (!read) {
		signInTrouble.value = "That is not a token.";
		return false;
	}
	if (read.expires <= Date.now()) {
		signInTrouble.value = "That token has expired.";
		return false;
	}
	const other = lastUser !== null && lastUser !== read.user;
	if (keep) store(KEPT, read.text);
	// Nothing of another user may stay on the page.
	if (other) {
		if (keep) location.assign("/");
		else location.reload();
		return true;
	}
	lastUser = read.user;
	signInTrouble.value = null;
	token.value = read;
	return true;
}

let lastUser: string | null = null;

export function signOut() {
	store(KEPT, null);
	token.value = null;
	location.assign("/");
}

/** Why the server did not take a token, by the code of its answer (`docs/errors.md`). */
const REFUSALS: Record<string, string> = {
	token_expired: "Your sign-in has expired.",
	token_not_yet_valid:
		"Your token is not valid yet. Wait a moment, or check the clock of whoever made it.",
	invalid_token: "The server does not accept this token. Sign in with another one.",
	missing_token:
		"The token did not reach the server. Something between this page and the server may have removed it.",
};

/** The server does not take the token that a request was sent with. What is on the page stays. */
export function tokenRefused(problem: Problem, sent: string | undefined) {
	const current = token.peek();
	// Another token may have taken its place while the request was on its way.
	if (!current || sent !== `Bearer ${current.text}`) return;
	if (stored(KEPT) === current.text) store(KEPT, null);
	signInTrouble.value = `${REFUSALS[problem.code] ?? problem.detail ?? "The server does not accept this token."} What you have written is kept.`;
	token.value = null;
	if (embedded) askHost?.();
}

/** Waits until somebody is signed in. */
export function signedIn(): Promise<void> {
	return new Promise((resolve) => {
		const stop = effect(() => {
			if (!token.value) return;
			queueMicrotask(() => stop());
			resolve();
		});
	});
}

addEventListener("storage", (event) => {
	if (event.key !== KEPT || embedded) return;
	if (event.newValue && event.newValue !== token.peek()?.text) signIn(event.newValue, false);
	else if (!event.newValue && token.peek()) {
		token.value = null;
		signInTrouble.value = "You signed out in another tab.";
	}
});

/** Reads the settings, then the token from wherever one is. */
export async function startSession() {
	starting.value = true;
	startTrouble.value = null;
	fragment ??= takeFragment();
	// Who is signed in already need not wait for the settings.
	const kept = stored(KEPT);
	const keptToken = kept ? readToken(kept) : null;
	const known =
		!embedded && !fragment.code && !fragment.token && keptToken && keptToken.expires > Date.now();
	if (known && !token.peek()) signIn(keptToken.text, false);
	try {
		const response = await fetch("/page-settings");
		if (!response.ok) throw new Error(String(response.status));
		settings.value = (await response.json()) as PageSettings;
	} catch {
		startTrouble.value = "The server cannot be reached.";
		starting.value = false;
		return;
	}
	await applyFragment();
	if (embedded && !token.peek()) askHost?.();
	starting.value = false;
}

async function applyFragment() {
	const { code, token: returned, state } = fragment ?? {};
	fragment = {};
	if (code) await redeem(code);
	else if (returned) takeReturned(returned, state);
}

// An address with a code may be opened in the tab that asks for it: then only the fragment changes, and nothing is loaded.
addEventListener("hashchange", () => {
	if (!location.hash) return;
	fragment = takeFragment();
	if (settings.peek()) void applyFragment();
	else if (!starting.peek()) void startSession();
});

interface Fragment {
	code?: string | undefined;
	token?: string | undefined;
	state?: string | undefined;
}

/** What the page was opened with, until it is used. */
let fragment: Fragment | undefined;

/** What stands behind the `#`, which is taken out of the address and its history at once. */
function takeFragment(): Fragment {
	const parameters = new URLSearchParams(location.hash.slice(1));
	if (location.hash) history.replaceState(history.state, "", location.pathname + location.search);
	const get = (name: string) => parameters.get(name) ?? undefined;
	return { code: get("code"), token: get("token"), state: get("state") };
}

async function redeem(code: string) {
	try {
		const body = JSON.stringify({ code });
		const response = await fetch("/sign-in", {
			method: "POST",
			body,
			headers: { "content-type": "application/json" },
		});
		const answer = (await response.json()) as { token: string } | Problem;
		if ("token" in answer) signIn(answer.token, !embedded);
		else signInTrouble.value = answer.detail;
	} catch {
		signInTrouble.value = "The server cannot be reached.";
	}
}

/** A token that comes without the state that was sent along may be somebody else's: then the page would be used in their name. */
function takeReturned(text: string, state: string | undefined) {
	const sent = stored(STATE);
	store(STATE, null);
	if (sent !== null && state === sent) signIn(text, !embedded);
	else signInTrouble.value = "That sign-in was not begun here. Please sign in again.";
}

/** Goes to the configured address, which comes back with a token. */
export function leaveToSignIn(url: string) {
	const state = unique();
	store(STATE, state);
	const address = new URL(url);
	address.searchParams.set("return_to", location.origin + location.pathname);
	address.searchParams.set("state", state);
	location.assign(address);
}
