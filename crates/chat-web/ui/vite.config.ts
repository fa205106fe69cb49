import { defineConfig } from "vite";
import { compressOutput, emptyOutput } from "./build/files.ts";

export default defineConfig({
	base: "/page/",
	oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
	plugins: [emptyOutput(), compressOutput()],
	build: {
		target: "es2022",
		emptyOutDir: false,
		modulePreload: { polyfill: false },
		assetsInlineLimit: 0,
		reportCompressedSize: false,
		license: { fileName: "licenses.md" },
		rolldownOptions: { input: "index.html" },
	},
});
