import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import pixelmatch from "pixelmatch";
import { PNG } from "pngjs";

/*
 * Pictures to compare with are kept at half their size, each of their pixels the mean of a square of the screen, with fewer colours. That
 * keeps the repository small, and how a version of Chromium draws the edges of letters makes hardly a difference, while a line that moves by
 * a pixel or changes its colour does.
 */
const SQUARE = 2;
const COLOURS = 0xf8;
/** How much a colour may differ (0 to 1, as pixelmatch counts), and how many pixels may differ more. */
const COLOUR = 0.04;
const MOST = 12;

const FOLDER = join(import.meta.dirname, "../pictures");
const OUT = join(import.meta.dirname, "../out");

export function shrunk(picture: Buffer): PNG {
	const from = PNG.sync.read(picture);
	const [width, height] = [Math.floor(from.width / SQUARE), Math.floor(from.height / SQUARE)];
	const to = new PNG({ width, height });
	for (let y = 0; y < height; y++) {
		for (let x = 0; x < width; x++) {
			for (let channel = 0; channel < 4; channel++) {
				let sum = 0;
				for (let dy = 0; dy < SQUARE; dy++) {
					for (let dx = 0; dx < SQUARE; dx++)
						sum += from.data[((y * SQUARE + dy) * from.width + x * SQUARE + dx) * 4 + channel] ?? 0;
				}
				to.data[(y * width + x) * 4 + channel] = (sum / SQUARE ** 2) & COLOURS;
			}
		}
	}
	return to;
}

function write(path: string, picture: PNG) {
	mkdirSync(dirname(path), { recursive: true });
	writeFileSync(path, PNG.sync.write(picture, { deflateLevel: 9, colorType: 2 }));
}

/** What is wrong with a picture, if it is not what is kept under its name. `UPDATE_PICTURES=1` keeps it instead. */
export function compare(name: string, taken: Buffer): string | null {
	const small = shrunk(taken);
	const path = join(FOLDER, `${name}.png`);
	if (process.env.UPDATE_PICTURES) {
		write(path, small);
		return null;
	}
	if (!existsSync(path))
		return `${name}: there is no picture to compare with; UPDATE_PICTURES=1 keeps this one`;
	const kept = PNG.sync.read(readFileSync(path));
	if (kept.width !== small.width || kept.height !== small.height) return `${name}: another size`;
	const difference = new PNG({ width: small.width, height: small.height });
	const pixels = pixelmatch(kept.data, small.data, difference.data, small.width, small.height, {
		threshold: COLOUR,
		includeAA: true,
	});
	if (pixels <= MOST) return null;
	write(join(OUT, `${name}.differs.png`), difference);
	writeFileSync(join(OUT, `${name}.png`), taken);
	return `${name}: ${pixels} of ${small.width * small.height} pixels differ; see e2e/out`;
}
