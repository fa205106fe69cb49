import { defineConfig } from "vite";
import { compressed } from "./build/files.ts";

/** The script for other people's pages: one file that needs no other, and no module, so that it may come from another origin. */
export default defineConfig({
	publicDir: false,
	plugins: [compressed()],
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
