import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import pixelmatch from "pixelmatch";
import { PNG } from "pngjs";

/*
 * Stored pictures have half the size and fewer colours; each pixel is the mean of a square. That
 * keeps the repository small and tolerates small differences between Chromium versions at the edges
 * of letters, while a line that moves by a pixel or changes its colour is noticed.
 */
const SQUARE = 2;
const COLOUR_MASK = 0xf8;
/** The tolerance of colours (0 to 1, by pixelmatch), and of pixels beyond it. */
const COLOUR_TOLERANCE = 0.04;
const PIXEL_TOLERANCE = 12;

const FOLDER = join(import.meta.dirname, "../pictures");
const OUT = join(import.meta.dirname, "../out");

function downscale(picture: Buffer): PNG {
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
				to.data[(y * width + x) * 4 + channel] = (sum / SQUARE ** 2) & COLOUR_MASK;
			}
		}
	}
	return to;
}

function write(path: string, picture: PNG) {
	mkdirSync(dirname(path), { recursive: true });
	writeFileSync(path, PNG.sync.write(picture, { deflateLevel: 9, colorType: 2 }));
}

/**
 * Compares a picture with the stored one and describes the difference. `UPDATE_PICTURES=1` stores
 * it.
 */
export function compare(name: string, taken: Buffer): string | null {
	const small = downscale(taken);
	const path = join(FOLDER, `${name}.png`);
	if (process.env.UPDATE_PICTURES) {
		write(path, small);
		return null;
	}
	if (!existsSync(path))
		return `${name}: there is no stored picture; UPDATE_PICTURES=1 stores this one`;
	const stored = PNG.sync.read(readFileSync(path));
	if (stored.width !== small.width || stored.height !== small.height)
		return `${name}: another size`;
	const difference = new PNG({ width: small.width, height: small.height });
	const pixels = pixelmatch(stored.data, small.data, difference.data, small.width, small.height, {
		threshold: COLOUR_TOLERANCE,
		includeAA: true,
	});
	if (pixels <= PIXEL_TOLERANCE) return null;
	write(join(OUT, `${name}.differs.png`), difference);
	writeFileSync(join(OUT, `${name}.png`), taken);
	return `${name}: ${pixels} of ${small.width * small.height} pixels differ; see e2e/out`;
}
