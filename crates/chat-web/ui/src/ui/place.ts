import type { RefObject } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

type Box = RefObject<HTMLDivElement | null>;

const topOf = (element: Element) => element.getBoundingClientRect().top;

/**
 * Keeps the reader's place when earlier messages come above it. Browsers do so themselves, but not at the very top, and WebKit never.
 * The place is taken when the page is about to change, so that what the reader scrolled while they were read is not undone.
 */
export function useKeepPlace(box: Box, first: string | undefined) {
	const last = useRef(first);
	const before = useRef<{ turn: Element; top: number } | null>(null);
	if (last.current !== first && last.current !== undefined) {
		const turn = box.current?.querySelector(".turn") ?? null;
		before.current ??= turn && { turn, top: topOf(turn) };
	}
	useLayoutEffect(() => {
		const place = before.current;
		before.current = null;
		last.current = first;
		const outside = box.current;
		if (!outside || !place?.turn.isConnected || place.turn === outside.querySelector(".turn"))
			return;
		const moved = topOf(place.turn) - place.top;
		if (Math.abs(moved) >= 1) outside.scrollTop += moved;
	}, [first]);
}

/** Whether the browser holds what is seen in its place when something above it changes its height. */
const ANCHORS = typeof CSS !== "undefined" && CSS.supports("overflow-anchor", "auto");

/** Does so where the browser does not. */
export function useAnchor(box: Box, inner: Box, stuck: RefObject<boolean>, of: unknown[]) {
	useLayoutEffect(() => {
		const [outside, inside] = [box.current, inner.current];
		if (ANCHORS || !outside || !inside) return;
		let anchor: { element: Element; top: number } | null = null;
		const choose = () => {
			const edge = topOf(outside);
			const element = [...inside.querySelectorAll(".msg")].find(
				(message) => message.getBoundingClientRect().bottom > edge,
			);
			anchor = element ? { element, top: topOf(element) } : null;
		};
		const resized = new ResizeObserver(() => {
			if (anchor?.element.isConnected && !stuck.current) {
				const moved = topOf(anchor.element) - anchor.top;
				if (Math.abs(moved) >= 1) outside.scrollTop += moved;
			}
			choose();
		});
		resized.observe(inside);
		outside.addEventListener("scroll", choose, { passive: true });
		return () => {
			resized.disconnect();
			outside.removeEventListener("scroll", choose);
		};
	}, of);
}
