import { beforeEach, expect, test, vi } from "vitest";
import { dismiss, notices, notify } from "./notices";

beforeEach(() => {
	vi.useFakeTimers();
	for (const { id } of notices.peek()) dismiss(id);
});

const texts = () => notices.peek().map(({ text }) => text);
const undo = { label: "Undo", run: () => {} };

test("several notices are shown at once, each for its own duration", () => {
	notify("First", { action: undo, duration: 5_000 });
	notify("Second", { duration: 1_000 });
	expect(texts()).toEqual(["First", "Second"]);
	vi.advanceTimersByTime(1_000);
	expect(texts()).toEqual(["First"]);
});

test("the oldest notices without an action make room for newer ones", () => {
	for (let index = 0; index < 3; index++) notify(`Deleted ${index}`, { action: undo });
	for (let index = 0; index < 6; index++) notify(`Text ${index}`);
	expect(texts()).toEqual(["Deleted 0", "Deleted 1", "Deleted 2", "Text 5"]);
	notify("Text 5");
	expect(texts()).toHaveLength(4);
});
