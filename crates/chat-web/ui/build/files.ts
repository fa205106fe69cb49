import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";

/** Text is worth compressing; fonts are compressed already. */
const TEXT = /\.(html|js|css|svg|md)$/;

/** Empties the output folder, but for the file that keeps it out of git. */
export function emptied(): Plugin {
	let folder = "";
	return {
		name: "emptied",
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

/** Writes each text file once more by Brotli and once more by gzip, where that makes it smaller. */
export function compressed(): Plugin {
	let folder = "";
	return {
		name: "compressed",
		apply: "build",
		configResolved: (config) => {
			folder = join(config.root, config.build.outDir);
		},
		closeBundle: () => {
			for (const path of files(folder).filter((path) => TEXT.test(path))) {
				const plain = readFileSync(path);
				const sized = { [constants.BROTLI_PARAM_SIZE_HINT]: plain.length };
				const coded = {
					br: brotliCompressSync(plain, { params: sized }),
					gz: gzipSync(plain, { level: 9 }),
				};
				for (const [ending, bytes] of Object.entries(coded))
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
