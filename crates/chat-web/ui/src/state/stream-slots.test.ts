import { expect, test, vi } from "vitest";

/** A slot as another tab has it. */
async function tab() {
	vi.resetModules();
	const { StreamSlot } = await import("./stream-slots");
	return new StreamSlot();
}

test("three tabs have a stream; whoever asks next gets the one of the tab that has had it the longest", async () => {
	vi.spyOn(Date, "now").mockImplementation(() => ++now);
	let now = 1_000_000;
	const slots = [await tab(), await tab(), await tab(), await tab(), await tab()];
	const held = () => slots.map((slot) => slot.held.peek());
	for (const slot of slots) slot.take();
	await vi.waitFor(() => expect(held()).toEqual([false, false, true, true, true]), {
		timeout: 5_000,
	});
	// The tab that is looked at is the newest.
	slots[0]!.take();
	await vi.waitFor(() => expect(held()).toEqual([true, false, false, true, true]), {
		timeout: 5_000,
	});
	for (const slot of slots) slot.close();
	expect(held()).toEqual([false, false, false, false, false]);
});
