import { signal } from "@preact/signals";
import { isEmbedded } from "../session/session";
import { browserStorage } from "../session/storage";
import { IconButton } from "./icon-button";
import { Auto, Moon, Sun } from "./icons";

export type Theme = "auto" | "light" | "dark";

const STORAGE_KEY = "chat.theme";
const isTheme = (text: string | null): text is Theme =>
	text === "auto" || text === "light" || text === "dark";

export const theme = signal<Theme>("auto");

export function applyTheme(next: Theme) {
	theme.value = next;
	if (next === "auto") delete document.documentElement.dataset.theme;
	else document.documentElement.dataset.theme = next;
}

/** Sets the hue of the accent colour, 0 to 360. */
export function setHue(hue: number) {
	if (Number.isFinite(hue)) document.documentElement.style.setProperty("--hue", String(hue));
}

/** Applies the theme and hue of the page's address, or else the user's last choice. */
export function applyInitialTheme() {
	const query = new URLSearchParams(location.search);
	const initial = query.get("theme") ?? browserStorage.get(STORAGE_KEY);
	applyTheme(isTheme(initial) ? initial : "auto");
	if (query.has("hue")) setHue(Number(query.get("hue")));
}

function chooseTheme(next: Theme) {
	applyTheme(next);
	if (!isEmbedded) browserStorage.set(STORAGE_KEY, next);
}

const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const NAME: Record<Theme, string> = { auto: "system", light: "light", dark: "dark" };

export function ThemeSwitch() {
	const now = theme.value;
	const Icon = now === "auto" ? Auto : now === "light" ? Sun : Moon;
	const label = `Colours: ${NAME[now]}. Switch to ${NAME[NEXT[now]]}`;
	return (
		<IconButton label={label} onClick={() => chooseTheme(NEXT[now])}>
			<Icon size={17} />
		</IconButton>
	);
}
