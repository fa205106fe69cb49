import { effect, signal } from "@preact/signals";
import type { PageSettings, Problem } from "../api/types";
import { randomId } from "./random-id";
import { browserStorage } from "./storage";
import { bareToken, readToken, type Token } from "./token";

/*
 * The signed-in user. A token that the page obtained itself is kept in `localStorage`, for other
 * tabs and reloads. A token from an embedding page stays in memory: that page provides it again.
 */
const TOKEN_KEY = "chat.token";
const STATE_KEY = "chat.sign-in-state";

export const settings = signal<PageSettings | null>(null);
export const token = signal<Token | null>(null);
/** The reason for the last failed or ended sign-in, for users. */
export const signInTrouble = signal<string | null>(null);
export const isStarting = signal(true);
export const startTrouble = signal<string | null>(null);
export const isEmbedded = parent !== window;

/** Where a token is kept: for this page alone, or for other tabs and reloads too. */
export type TokenLifetime = "page" | "browser";

/** The lifetime of tokens that the page obtains itself. */
const ownLifetime: TokenLifetime = isEmbedded ? "page" : "browser";

let lastUser: string | null = null;
let requestHostToken: (() => void) | undefined;
/** The credentials in the page's address, until they are used. */
let fragment: Fragment | undefined;

/** Registers the function that asks the embedding page for a token. */
export function onTokenNeeded(requestToken: () => void) {
	requestHostToken = requestToken;
}

export function authorization(): Record<string, string> {
	const current = token.peek();
	return current ? { authorization: `Bearer ${current.text}` } : {};
}

/** The id of the user, also after their sign-in has expired. */
export const userId = () => token.peek()?.user ?? lastUser ?? "";

export const isSignedIn = () => token.peek() !== null;

/** The agent's name in sentences; empty until the settings are read. */
export const agentName = () => settings.peek()?.agent_name ?? "";

/** Signs in with a token; returns whether it is one and has not expired. */
export function signIn(text: string, lifetime: TokenLifetime = ownLifetime): boolean {
	const candidate = readToken(bareToken(text));
	if (!candidate) {
		signInTrouble.value = "That is not a token.";
		return false;
	}
	if (candidate.expires <= Date.now()) {
		signInTrouble.value = "That token has expired.";
		return false;
	}
	const isOtherUser = lastUser !== null && lastUser !== candidate.user;
	if (lifetime === "browser") browserStorage.set(TOKEN_KEY, candidate.text);
	// Loading the page again removes everything of the previous user from it.
	if (isOtherUser) {
		if (lifetime === "browser") location.assign("/");
		else location.reload();
		return true;
	}
	lastUser = candidate.user;
	signInTrouble.value = null;
	token.value = candidate;
	return true;
}

export function signOut() {
	browserStorage.set(TOKEN_KEY, null);
	token.value = null;
	location.assign("/");
}

/** Sentences about a rejected token, by the code of the server's answer (`docs/errors.md`). */
const REJECTIONS: Record<string, string> = {
	token_expired: "Your sign-in has expired.",
	token_not_yet_valid:
		"Your token is not valid yet. Wait a moment, or check the clock of the server that issued it.",
	invalid_token: "The server does not accept this token. Sign in with another one.",
	missing_token:
		"The token did not reach the server. A proxy between this page and the server may have removed it.",
};

/**
 * Ends the sign-in after the server rejected the `Authorization` header of a request. The page
 * keeps its content.
 */
export function rejectToken(problem: Problem, rejected: string | undefined) {
	const current = token.peek();
	// The token may have been replaced while the request was in flight.
	if (!current || rejected !== `Bearer ${current.text}`) return;
	if (browserStorage.get(TOKEN_KEY) === current.text) browserStorage.set(TOKEN_KEY, null);
	signInTrouble.value = `${REJECTIONS[problem.code] ?? problem.detail} Your draft is kept.`;
	token.value = null;
	if (isEmbedded) requestHostToken?.();
}

/** Resolves when a user is signed in. */
export function signedIn(): Promise<void> {
	return new Promise((resolve) => {
		const stop = effect(() => {
			if (!token.value) return;
			queueMicrotask(() => stop());
			resolve();
		});
	});
}

/** Follows sign-ins in other tabs, and codes that are put into the address of this one. */
export function watchSession() {
	addEventListener("storage", (event) => {
		if (event.key !== TOKEN_KEY || isEmbedded) return;
		if (event.newValue && event.newValue !== token.peek()?.text) signIn(event.newValue, "page");
		else if (!event.newValue && token.peek()) {
			token.value = null;
			signInTrouble.value = "You signed out in another tab.";
		}
	});
	// Opening an address with a code in this tab changes the fragment and loads nothing.
	addEventListener("hashchange", () => {
		if (!location.hash) return;
		fragment = takeFragment();
		if (settings.peek()) void applyFragment();
		else if (!isStarting.peek()) void startSession();
	});
}

/** Reads the settings and signs in with a code, a returned token or the token that was kept. */
export async function startSession() {
	isStarting.value = true;
	startTrouble.value = null;
	fragment ??= takeFragment();
	// A user who is signed in need not wait for the settings.
	const stored = readToken(browserStorage.get(TOKEN_KEY) ?? "");
	const hasCredentials = Boolean(fragment.code || fragment.token);
	const isUsable = stored !== null && stored.expires > Date.now();
	if (isUsable && !isEmbedded && !hasCredentials && !token.peek()) signIn(stored.text, "page");
	try {
		const response = await fetch("/page-settings");
		if (!response.ok) throw new Error(String(response.status));
		settings.value = (await response.json()) as PageSettings;
	} catch {
		startTrouble.value = "The server cannot be reached.";
		isStarting.value = false;
		return;
	}
	await applyFragment();
	if (isEmbedded && !token.peek()) requestHostToken?.();
	isStarting.value = false;
}

async function applyFragment() {
	const { code, token: returned, state } = fragment ?? {};
	fragment = {};
	if (code) await redeemCode(code);
	else if (returned) acceptReturnedToken(returned, state);
}

interface Fragment {
	code?: string | undefined;
	token?: string | undefined;
	state?: string | undefined;
}

/** Reads the fragment and removes it from the address and the history of the browser. */
function takeFragment(): Fragment {
	const parameters = new URLSearchParams(location.hash.slice(1));
	if (location.hash) history.replaceState(history.state, "", location.pathname + location.search);
	const get = (name: string) => parameters.get(name) ?? undefined;
	return { code: get("code"), token: get("token"), state: get("state") };
}

async function redeemCode(code: string) {
	try {
		const body = JSON.stringify({ code });
		const response = await fetch("/sign-in", {
			method: "POST",
			body,
			headers: { "content-type": "application/json" },
		});
		const answer = (await response.json()) as { token: string } | Problem;
		if ("token" in answer) signIn(answer.token);
		else signInTrouble.value = answer.detail;
	} catch {
		signInTrouble.value = "The server cannot be reached.";
	}
}

/**
 * Signs in with the token that the sign-in page returned. A token without the state that was sent
 * to that page may belong to an attacker, whose account the user would then use.
 */
function acceptReturnedToken(text: string, state: string | undefined) {
	const expected = browserStorage.get(STATE_KEY);
	browserStorage.set(STATE_KEY, null);
	if (expected !== null && state === expected) signIn(text);
	else signInTrouble.value = "That sign-in was not started on this page. Please sign in again.";
}

/** Goes to the configured sign-in page, which returns with a token. */
export function redirectToSignIn(url: string) {
	const state = randomId();
	browserStorage.set(STATE_KEY, state);
	const address = new URL(url);
	address.searchParams.set("return_to", location.origin + location.pathname);
	address.searchParams.set("state", state);
	location.assign(address);
}
