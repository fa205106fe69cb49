/* Formatters are slow to make and fast to use: one of each, made when it is first needed. */
const lang = localeOf([...(navigator.languages ?? []), navigator.language]);

/** The first of these languages that is one. A browser may name others, such as the locale `C`; without any, its default is taken. */
export function localeOf(languages: readonly string[]): string | undefined {
	for (const language of languages) {
		try {
			const [locale] = Intl.getCanonicalLocales(language);
			if (locale) return locale;
		} catch {
			// Not a language.
		}
	}
	return undefined;
}

function once(options: Intl.DateTimeFormatOptions): (date: Date) => string {
	let format: Intl.DateTimeFormat | undefined;
	return (date) => {
		format ??= new Intl.DateTimeFormat(lang, options);
		return format.format(date);
	};
}

const hourAndMinute = once({ hour: "2-digit", minute: "2-digit" });
const exactTime = once({ dateStyle: "full", timeStyle: "long" });
const weekdayAndDay = once({ weekday: "long", day: "numeric", month: "long" });
const dayOfYear = once({ day: "numeric", month: "long" });
const dayAndYear = once({ day: "numeric", month: "long", year: "numeric" });
const weekday = once({ weekday: "short" });
const shortDay = once({ day: "numeric", month: "short" });
let relative: Intl.RelativeTimeFormat | undefined;

const DAY = 86_400_000;
const dayNumber = (date: Date) =>
	Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / DAY);

/** A number that two times of the same local day share. */
export const dayOf = (iso: string) => dayNumber(new Date(iso));
const daysAgo = (iso: string) => dayNumber(new Date()) - dayOf(iso);

export const clock = (iso: string) => hourAndMinute(new Date(iso));
export const exact = (iso: string) => exactTime(new Date(iso));

export function dayName(iso: string): string {
	const ago = daysAgo(iso);
	const date = new Date(iso);
	if (ago >= 0 && ago < 2) {
		relative ??= new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
		const name = relative.format(-ago, "day");
		return name.charAt(0).toLocaleUpperCase(lang) + name.slice(1);
	}
	if (ago >= 0 && ago < 7) return weekdayAndDay(date);
	return date.getFullYear() === new Date().getFullYear() ? dayOfYear(date) : dayAndYear(date);
}

/** The heading that a conversation stands under in the list. */
export function group(iso: string): string {
	const ago = daysAgo(iso);
	if (ago <= 0) return "Today";
	if (ago === 1) return "Yesterday";
	return ago < 8 ? "Previous 7 days" : "Older";
}

export function short(iso: string): string {
	const ago = daysAgo(iso);
	if (ago <= 1) return clock(iso);
	return ago < 7 ? weekday(new Date(iso)) : shortDay(new Date(iso));
}

export function duration(ms: number): string {
	if (ms < 1_000) return `${Math.round(ms)} ms`;
	if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
	const seconds = Math.round(ms / 1_000);
	return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

export function bytes(count: number): string {
	return count < 1_024 ? `${count} B` : `${(count / 1_024).toFixed(count < 10_240 ? 1 : 0)} KiB`;
}

export function initials(name: string): string {
	const words = name.split(/[\s._@-]+/).filter(Boolean);
	return words
		.slice(0, 2)
		.map((word) => [...word][0])
		.join("")
		.toUpperCase();
}
