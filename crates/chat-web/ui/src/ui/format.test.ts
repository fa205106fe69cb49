import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { bytes, dateGroup, dayName, duration, initials, localeOf } from "./format";

beforeEach(() => {
	vi.useFakeTimers();
	vi.setSystemTime(new Date(2026, 10, 20, 0, 30));
});
afterEach(() => {
	vi.useRealTimers();
});

const daysAgo = (days: number) => new Date(2026, 10, 20 - days, 23, 50).toISOString();

test("days are calendar days, not periods of 24 hours", () => {
	expect([0, 1, 2, 7, 8].map((days) => dateGroup(daysAgo(days)))).toEqual([
		"Today",
		"Yesterday",
		"Previous 7 days",
		"Previous 7 days",
		"Older",
	]);
	expect(dayName(daysAgo(1))).toBe("Yesterday");
	expect(dayName(new Date(2024, 1, 29).toISOString())).toContain("2024");
});

test("durations and sizes are short", () => {
	expect([0, 999, 1_000, 9_949, 59_000, 60_000, 125_400].map(duration)).toEqual([
		"0 ms",
		"999 ms",
		"1.0 s",
		"9.9 s",
		"59 s",
		"1 min 0 s",
		"2 min 5 s",
	]);
	expect([0, 1_023, 1_024, 262_144].map(bytes)).toEqual(["0 B", "1023 B", "1.0 KiB", "256 KiB"]);
});

test("initials are letters of any script", () => {
	expect(["Mara Lindqvist", "demo", "jörg.meyer@x", "", "😀 x"].map(initials)).toEqual([
		"ML",
		"D",
		"JM",
		"",
		"😀X",
	]);
});

test("an invalid language is skipped", () => {
	expect(localeOf(["C", "", "de-DE", "en"])).toBe("de-DE");
	expect(localeOf(["C"])).toBeUndefined();
});
