import { defineConfig } from "vite";
import { compressOutput } from "./build/files.ts";

/**
 * The script for pages that embed the chat: one file, and not a module, so that it can be loaded
 * from another origin.
 */
export default defineConfig({
	publicDir: false,
	plugins: [compressOutput()],
	build: {
		target: "es2022",
		emptyOutDir: false,
		reportCompressedSize: false,
		lib: {
			entry: "src/embed/embed.ts",
			formats: ["iife"],
			name: "chatPanel",
			fileName: () => "embed.js",
		},
	},
});
