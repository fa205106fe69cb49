import { defineConfig } from "vitest/config";

/** Tests in a real browser, against the real program. Each file has its own of both. */
export default defineConfig({
	test: {
		root: import.meta.dirname,
		include: [process.env.CHAT_RUN ?? "*.test.ts"],
		environment: "node",
		maxWorkers: 2,
		testTimeout: 60_000,
		hookTimeout: 120_000,
		// A state is waited for as long as a machine may take that has much else to do.
		expect: { poll: { timeout: 20_000 } },
	},
});
