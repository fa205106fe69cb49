import { Fragment, type RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { settings } from "../session/session";
import { go, load, loadEarlier, type Open, open, running, send } from "../state/conversation";
import { link } from "../state/link";
import { Boundary } from "./boundary";
import { Composer } from "./composer";
import { dayName, dayOf } from "./format";
import { Alert, ArrowDown, Mark, Plus, Redo, Spinner } from "./icons";
import { useAnchor, useKeepPlace } from "./place";
import { Question, TurnView } from "./turn";

const END = 40;
const FAR = 160;

/** Keeps the end in view while text arrives, until the reader scrolls up. */
function useStick(shown: Open, there: boolean) {
	const box = useRef<HTMLDivElement>(null);
	const inner = useRef<HTMLDivElement>(null);
	const stuck = useRef(true);
	const [away, setAway] = useState(false);
	useLayoutEffect(() => {
		const [outside, inside] = [box.current, inner.current];
		if (!outside || !inside) return;
		stuck.current = true;
		setAway(false);
		outside.scrollTop = outside.scrollHeight;
		let top = outside.scrollTop;
		const scrolled = () => {
			const below = outside.scrollHeight - outside.scrollTop - outside.clientHeight;
			if (outside.scrollTop < top - 2 && below > END) stuck.current = false;
			else if (below < END) stuck.current = true;
			top = outside.scrollTop;
			setAway(!stuck.current && below > FAR);
		};
		const resized = new ResizeObserver(() => {
			if (stuck.current) outside.scrollTop = outside.scrollHeight;
		});
		resized.observe(inside);
		resized.observe(outside);
		outside.addEventListener("scroll", scrolled, { passive: true });
		return () => {
			resized.disconnect();
			outside.removeEventListener("scroll", scrolled);
		};
	}, [shown, there]);
	useAnchor(box, inner, stuck, [shown, there]);
	const toEnd = () => {
		stuck.current = true;
		setAway(false);
		const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
		box.current?.scrollTo({ top: box.current.scrollHeight, behavior });
	};
	return { box, inner, away, toEnd, stuck };
}

/** Reads the page before when its place comes near. */
function Earlier({ box }: { box: RefObject<HTMLDivElement | null> }) {
	const shown = open.value;
	const mark = useRef<HTMLDivElement>(null);
	useEffect(() => {
		const near = (entries: IntersectionObserverEntry[]) => {
			if (entries[0]?.isIntersecting && !open.peek().loading.peek()) void loadEarlier();
		};
		const observer = new IntersectionObserver(near, {
			root: box.current,
			rootMargin: "600px 0px 0px",
		});
		if (mark.current) observer.observe(mark.current);
		return () => observer.disconnect();
	}, [shown.turns.value.length]);
	return (
		<div class="earlier" ref={mark}>
			<button
				type="button"
				class="text-btn"
				onClick={() => void loadEarlier()}
				disabled={shown.loading.value}
			>
				{shown.loading.value ? "Loading earlier messages" : "Show earlier messages"}
			</button>
			<p class="only-print">The conversation began earlier than this.</p>
		</div>
	);
}

function Start() {
	return (
		<div class="start">
			<Mark size={44} />
			<h2>What can I help with today?</h2>
			<LinkBanner />
			<Composer />
			<ul class="hints" aria-label="Suggestions">
				{settings.value?.suggestions.map((suggestion) => (
					<li key={suggestion}>
						<button type="button" onClick={() => void send(suggestion)}>
							{suggestion}
						</button>
					</li>
				))}
			</ul>
		</div>
	);
}

const Skeleton = () => (
	<div class="skeleton" aria-hidden="true">
		<i class="r" />
		<i />
		<i />
		<i class="s" />
	</div>
);

const Day = ({ at }: { at: string }) => (
	<h2 class="day">
		<time dateTime={at}>{dayName(at)}</time>
	</h2>
);

/** What stands in the way of news. */
function LinkBanner() {
	const shown = open.value;
	const text =
		link.value === "offline"
			? "You are offline. What you write is kept."
			: running.value && !shown.connected.value
				? "The connection is lost. The answer goes on at the server."
				: link.value === "away"
					? "The server does not answer. Trying again."
					: null;
	return (
		text && (
			<p class="link" role="status">
				<Spinner size={15} class="spin" /> {text}
			</p>
		)
	);
}

function Trouble({ shown }: { shown: Open }) {
	const trouble = shown.trouble.value;
	return (
		trouble && (
			<div class="state" role="alert">
				<Alert size={22} />
				<p>{trouble.text}</p>
				{trouble.gone ? (
					<button type="button" class="btn" onClick={() => go(null)}>
						<Plus size={16} /> New conversation
					</button>
				) : (
					<button type="button" class="btn" onClick={() => void load(shown)}>
						<Redo size={16} /> Try again
					</button>
				)}
			</div>
		)
	);
}

export function ThreadView() {
	const shown = open.value;
	const turns = shown.turns.value;
	const sending = shown.sending.value;
	const { box, inner, away, toEnd, stuck } = useStick(
		shown,
		shown.id.value !== null || sending !== null,
	);
	useKeepPlace(box, turns[0]?.peek().id);
	// Who sends something looks at the end.
	useLayoutEffect(() => {
		if (sending && box.current) {
			stuck.current = true;
			box.current.scrollTop = box.current.scrollHeight;
		}
	}, [sending]);
	if (!shown.id.value && !sending) return <Start />;
	return (
		<>
			<div class="scroll" ref={box} tabIndex={0} role="region" aria-label="Conversation">
				<div class="column" ref={inner}>
					<Trouble shown={shown} />
					{shown.loading.value && turns.length === 0 && (
						<>
							<p class="sr" role="status">
								Loading the conversation
							</p>
							<Skeleton />
						</>
					)}
					{shown.earlier.value && <Earlier box={box} />}
					{turns.map((turn, at) => {
						const when = turn.peek().question?.at ?? turn.peek().answeredAt;
						const before = turns[at - 1]?.peek().question?.at;
						const newDay = when && (!before || dayOf(before) !== dayOf(when));
						return (
							<Fragment key={turn.peek().id}>
								{newDay && (
									<Boundary of={when} fallback={() => null}>
										<Day at={when} />
									</Boundary>
								)}
								<TurnView turn={turn} last={at === turns.length - 1} />
							</Fragment>
						);
					})}
					{sending && (
						<section class="turn last">
							<Question id="sending" text={sending.text} at={sending.at} state="sending" />
						</section>
					)}
				</div>
			</div>
			<div class="jump-row">
				{away && (
					<button
						type="button"
						class="jump"
						onClick={toEnd}
						aria-label="Go to the latest message"
						title="Go to the latest message"
					>
						<ArrowDown size={18} />
					</button>
				)}
			</div>
			<div class="dock">
				<div class="dock-in">
					<LinkBanner />
					<Composer />
					<p class="fine">{settings.value?.agent_name} can be wrong. Check what matters.</p>
				</div>
			</div>
		</>
	);
}
