import { beforeEach, expect, test, vi } from "vitest";
import { dismiss, notices, tell } from "./notices";

beforeEach(() => {
	vi.useFakeTimers();
	for (const { id } of notices.peek()) dismiss(id);
});

const texts = () => notices.peek().map(({ text }) => text);

test("several notices are there at once, each for its own time", () => {
	tell("First", { action: { label: "Undo", run: () => {} } }, 5_000);
	tell("Second", {}, 1_000);
	expect(texts()).toEqual(["First", "Second"]);
	vi.advanceTimersByTime(1_000);
	expect(texts()).toEqual(["First"]);
});

test("many make room for the newest, but never those that can be undone", () => {
	for (let at = 0; at < 3; at++)
		tell(`Deleted ${at}`, { action: { label: "Undo", run: () => {} } });
	for (let at = 0; at < 6; at++) tell(`Words ${at}`);
	expect(texts()).toEqual(["Deleted 0", "Deleted 1", "Deleted 2", "Words 5"]);
	tell("Words 5");
	expect(texts()).toHaveLength(4);
});
