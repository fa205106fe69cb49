import { defineConfig } from "vitest/config";

/**
 * Tests in a real browser against the real program. Each file starts its own server and browser.
 */
export default defineConfig({
	test: {
		root: import.meta.dirname,
		include: [process.env.CHAT_RUN ?? "*.test.ts"],
		environment: "node",
		maxWorkers: 2,
		testTimeout: 60_000,
		hookTimeout: 120_000,
		// A busy machine needs time to reach an expected state.
		expect: { poll: { timeout: 20_000 } },
	},
});
