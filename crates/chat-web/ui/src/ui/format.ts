/** The user's locale. */
const locale = localeOf([...(navigator.languages ?? []), navigator.language]);

/**
 * The first valid one of these languages. Browsers also name invalid ones, such as the locale `C`.
 */
export function localeOf(languages: readonly string[]): string | undefined {
	for (const language of languages) {
		try {
			const [canonical] = Intl.getCanonicalLocales(language);
			if (canonical) return canonical;
		} catch {
			// The next language may be valid.
		}
	}
	return undefined;
}

/** Returns a formatter that is created when it is first used, because creating one is slow. */
function lazyFormat(options: Intl.DateTimeFormatOptions): (date: Date) => string {
	let format: Intl.DateTimeFormat | undefined;
	return (date) => {
		format ??= new Intl.DateTimeFormat(locale, options);
		return format.format(date);
	};
}

const hourAndMinute = lazyFormat({ hour: "2-digit", minute: "2-digit" });
const fullTime = lazyFormat({ dateStyle: "full", timeStyle: "long" });
const weekdayAndDay = lazyFormat({ weekday: "long", day: "numeric", month: "long" });
const dayOfYear = lazyFormat({ day: "numeric", month: "long" });
const dayAndYear = lazyFormat({ day: "numeric", month: "long", year: "numeric" });
const weekday = lazyFormat({ weekday: "short" });
const shortDay = lazyFormat({ day: "numeric", month: "short" });
let relative: Intl.RelativeTimeFormat | undefined;

const DAY = 86_400_000;
const dayNumber = (date: Date) =>
	Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / DAY);

/** The number of a time's local day. */
export const dayOf = (iso: string) => dayNumber(new Date(iso));
const daysAgo = (iso: string) => dayNumber(new Date()) - dayOf(iso);

export const timeOfDay = (iso: string) => hourAndMinute(new Date(iso));
export const exactTime = (iso: string) => fullTime(new Date(iso));

export function dayName(iso: string): string {
	const ago = daysAgo(iso);
	const date = new Date(iso);
	if (ago >= 0 && ago < 2) {
		relative ??= new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
		const name = relative.format(-ago, "day");
		return name.charAt(0).toLocaleUpperCase(locale) + name.slice(1);
	}
	if (ago >= 0 && ago < 7) return weekdayAndDay(date);
	return date.getFullYear() === new Date().getFullYear() ? dayOfYear(date) : dayAndYear(date);
}

/** The heading above a conversation in the list. */
export function dateGroup(iso: string): string {
	const ago = daysAgo(iso);
	if (ago <= 0) return "Today";
	if (ago === 1) return "Yesterday";
	return ago < 8 ? "Previous 7 days" : "Older";
}

/** A time in the list: the time of day, the weekday or the date. */
export function shortTime(iso: string): string {
	const ago = daysAgo(iso);
	if (ago <= 1) return timeOfDay(iso);
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
