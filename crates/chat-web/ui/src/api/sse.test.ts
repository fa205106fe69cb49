import { expect, test } from "vitest";
import { type Frame, sseParser } from "./sse";

function read(chunks: string[]): Frame[] {
	const frames: Frame[] = [];
	const parse = sseParser((frame) => frames.push(frame));
	chunks.forEach(parse);
	return frames;
}

test("frames are parsed from chunks of any size, with all line ends", () => {
	const text =
		': comment\r\n\r\nid: 7\r\nevent: text\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:x\n\nid: 9\rdata: y\r\r';
	const whole = [
		{ id: "7", event: "text", data: '{"a":\n1}' },
		{ id: undefined, event: "message", data: "x" },
		{ id: "9", event: "message", data: "y" },
	];
	expect(read([text])).toEqual(whole);
	for (let size = 1; size < 12; size++) {
		const pieces = text.match(new RegExp(`[\\s\\S]{1,${size}}`, "g")) ?? [];
		expect(read(pieces), `pieces of ${size}`).toEqual(whole);
	}
});

test("a frame without an id does not inherit the previous one", () => {
	expect(read(["id: 1\ndata: a\n\nevent: error\ndata: b\n\n"]).map((frame) => frame.id)).toEqual([
		"1",
		undefined,
	]);
});
