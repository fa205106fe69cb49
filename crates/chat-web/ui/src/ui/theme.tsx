import { signal } from "@preact/signals";
import { embedded } from "../session/session";
import { store, stored } from "../session/storage";
import { Auto, Moon, Sun } from "./icons";

export type Theme = "auto" | "light" | "dark";

const KEPT = "chat.theme";
const isTheme = (text: string | null): text is Theme =>
	text === "auto" || text === "light" || text === "dark";

export const theme = signal<Theme>("auto");

export function setTheme(next: Theme, keep = true) {
	theme.value = next;
	if (next === "auto") delete document.documentElement.dataset.theme;
	else document.documentElement.dataset.theme = next;
	if (keep && !embedded) store(KEPT, next);
}

/** What else a page that embeds this one may choose: the hue of the accent, from 0 to 360. */
export function setHue(hue: number) {
	if (Number.isFinite(hue)) document.documentElement.style.setProperty("--hue", String(hue));
}

const asked = new URLSearchParams(location.search);
const first = asked.get("theme") ?? stored(KEPT);
setTheme(isTheme(first) ? first : "auto", false);
if (asked.has("hue")) setHue(Number(asked.get("hue")));

const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const WORD: Record<Theme, string> = { auto: "as the system", light: "light", dark: "dark" };

export function ThemeSwitch() {
	const now = theme.value;
	const Icon = now === "auto" ? Auto : now === "light" ? Sun : Moon;
	const label = `Colours: ${WORD[now]}. Switch to ${WORD[NEXT[now]]}`;
	return (
		<button
			type="button"
			class="icon-btn"
			aria-label={label}
			title={label}
			onClick={() => setTheme(NEXT[now])}
		>
			<Icon size={17} />
		</button>
	);
}
