import { defineConfig } from 'vitest/config';

/** Tests in a real browser, against the real program. One file after another: they share the machine's processors. */
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: [process.env.CHAT_RUN ?? '*.test.ts'],
    environment: 'node',
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
