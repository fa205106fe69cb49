import { expect, test, vi } from "vitest";
import { StreamSlot } from "./stream-slots";

test("three tabs hold a slot; a fourth claim releases the slot that was held the longest", async () => {
	let now = 1_000_000;
	vi.spyOn(Date, "now").mockImplementation(() => ++now);
	const slots = Array.from({ length: 5 }, () => new StreamSlot());
	const held = () => slots.map((slot) => slot.held.peek());
	for (const slot of slots) slot.claim();
	await vi.waitFor(() => expect(held()).toEqual([false, false, true, true, true]), {
		timeout: 5_000,
	});
	slots[0]!.claim();
	await vi.waitFor(() => expect(held()).toEqual([true, false, false, true, true]), {
		timeout: 5_000,
	});
	for (const slot of slots) slot.close();
	expect(held()).toEqual([false, false, false, false, false]);
});
