import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";

/** Files that are compressed. Fonts are compressed already. */
const TEXT = /\.(html|js|css|svg|md)$/;

/** Empties the output folder except for its .gitignore. */
export function emptyOutput(): Plugin {
	let folder = "";
	return {
		name: "empty-output",
		apply: "build",
		configResolved: (config) => {
			folder = join(config.root, config.build.outDir);
		},
		buildStart: () => {
			for (const name of readdirSync(folder))
				if (name !== ".gitignore") rmSync(join(folder, name), { recursive: true });
		},
	};
}

/** Compresses each text file by Brotli and by gzip, where that makes it smaller. */
export function compressOutput(): Plugin {
	let folder = "";
	return {
		name: "compress-output",
		apply: "build",
		configResolved: (config) => {
			folder = join(config.root, config.build.outDir);
		},
		closeBundle: () => {
			for (const path of files(folder).filter((path) => TEXT.test(path))) {
				const plain = readFileSync(path);
				const sized = { [constants.BROTLI_PARAM_SIZE_HINT]: plain.length };
				const encoded = {
					br: brotliCompressSync(plain, { params: sized }),
					gz: gzipSync(plain, { level: 9 }),
				};
				for (const [ending, bytes] of Object.entries(encoded))
					if (bytes.length < plain.length) writeFileSync(`${path}.${ending}`, bytes);
			}
		},
	};
}

function files(folder: string): string[] {
	return readdirSync(folder).flatMap((name) => {
		const path = join(folder, name);
		return statSync(path).isDirectory() ? files(path) : [path];
	});
}
