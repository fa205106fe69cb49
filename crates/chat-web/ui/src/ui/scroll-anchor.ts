import type { RefObject } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

type Box = RefObject<HTMLDivElement | null>;

const topOf = (element: Element) => element.getBoundingClientRect().top;

/**
 * Keeps the scroll position when earlier messages are inserted above it; `first` is the id of the
 * first turn. Browsers do so themselves except at the very top, and WebKit never does. The position
 * is measured just before the change, so that scrolling during the request is not undone.
 */
export function usePrependAnchor(box: Box, first: string | undefined) {
	const previousFirst = useRef(first);
	const anchor = useRef<{ turn: Element; top: number } | null>(null);
	if (previousFirst.current !== first && previousFirst.current !== undefined) {
		const turn = box.current?.querySelector(".turn") ?? null;
		anchor.current ??= turn && { turn, top: topOf(turn) };
	}
	useLayoutEffect(() => {
		const measured = anchor.current;
		anchor.current = null;
		previousFirst.current = first;
		const outside = box.current;
		if (!outside || !measured?.turn.isConnected || measured.turn === outside.querySelector(".turn"))
			return;
		const moved = topOf(measured.turn) - measured.top;
		if (Math.abs(moved) >= 1) outside.scrollTop += moved;
	}, [first]);
}

/** Whether the browser keeps visible content in place when content above changes its height. */
const HAS_SCROLL_ANCHORING = typeof CSS !== "undefined" && CSS.supports("overflow-anchor", "auto");

/** Anchors the scroll position where the browser does not. */
export function useScrollAnchor(
	box: Box,
	inner: Box,
	stuck: RefObject<boolean>,
	dependencies: unknown[],
) {
	useLayoutEffect(() => {
		const [outside, inside] = [box.current, inner.current];
		if (HAS_SCROLL_ANCHORING || !outside || !inside) return;
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
	}, dependencies);
}
