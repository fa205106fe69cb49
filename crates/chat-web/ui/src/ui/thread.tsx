import { Fragment, type RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { settings } from "../session/session";
import { connectivity } from "../state/connectivity";
import type { ConversationSession } from "../state/conversation-session";
import { useChat } from "./chat-context";
import { Composer } from "./composer";
import { ErrorBoundary } from "./error-boundary";
import { dayName, dayOf } from "./format";
import { Alert, ArrowDown, Mark, Plus, Redo, Spinner } from "./icons";
import { usePrependAnchor, useScrollAnchor } from "./scroll-anchor";
import { TurnView } from "./turn";
import { UserMessage } from "./user-message";

/**
 * Distances from the end, in pixels: up to `AT_END` the end is in view, beyond `FAR` the jump
 * button is.
 */
const AT_END = 40;
const FAR = 160;
/** Small movements of the scroll position come from rounding, not from the user. */
const ROUNDING = 2;

/** Keeps the end in view while text arrives, until the user scrolls up. */
function useStickToEnd(active: ConversationSession, isShown: boolean) {
	const box = useRef<HTMLDivElement>(null);
	const inner = useRef<HTMLDivElement>(null);
	const stuck = useRef(true);
	const [isAway, setAway] = useState(false);
	useLayoutEffect(() => {
		const [outside, inside] = [box.current, inner.current];
		if (!outside || !inside) return;
		stuck.current = true;
		setAway(false);
		outside.scrollTop = outside.scrollHeight;
		let top = outside.scrollTop;
		const scrolled = () => {
			const below = outside.scrollHeight - outside.scrollTop - outside.clientHeight;
			if (outside.scrollTop < top - ROUNDING && below > AT_END) stuck.current = false;
			else if (below < AT_END) stuck.current = true;
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
	}, [active, isShown]);
	useScrollAnchor(box, inner, stuck, [active, isShown]);
	const scrollToEnd = () => {
		stuck.current = true;
		setAway(false);
		const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
		box.current?.scrollTo({ top: box.current.scrollHeight, behavior });
	};
	return { box, inner, isAway, scrollToEnd, stuck };
}

/** Reads earlier messages when the user scrolls near the first one. */
function EarlierMessages({ box }: { box: RefObject<HTMLDivElement | null> }) {
	const active = useChat().activeConversation.value;
	const marker = useRef<HTMLDivElement>(null);
	useEffect(() => {
		const loadIfNear = (entries: IntersectionObserverEntry[]) => {
			if (entries[0]?.isIntersecting && !active.isLoading.peek()) void active.loadEarlier();
		};
		const observer = new IntersectionObserver(loadIfNear, {
			root: box.current,
			rootMargin: "600px 0px 0px",
		});
		if (marker.current) observer.observe(marker.current);
		return () => observer.disconnect();
	}, [active, active.turns.value.length]);
	return (
		<div class="earlier" ref={marker}>
			<button
				type="button"
				class="text-btn"
				onClick={() => void active.loadEarlier()}
				disabled={active.isLoading.value}
			>
				{active.isLoading.value ? "Loading earlier messages" : "Show earlier messages"}
			</button>
			<p class="only-print">Earlier messages are not printed.</p>
		</div>
	);
}

/** A new conversation, with suggestions. */
function NewConversation() {
	const active = useChat().activeConversation.value;
	return (
		<div class="start">
			<Mark size={44} />
			<h2>What can I help with today?</h2>
			<ConnectionBanner />
			<Composer />
			<ul class="hints" aria-label="Suggestions">
				{settings.value?.suggestions.map((suggestion) => (
					<li key={suggestion}>
						<button type="button" onClick={() => void active.send(suggestion)}>
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

function connectionTrouble(isStreamLost: boolean): string | null {
	if (connectivity.value === "offline") return "You are offline. Your draft is kept.";
	if (isStreamLost) return "The connection is lost. The server continues the answer.";
	return connectivity.value === "unreachable" ? "The server does not answer. Trying again." : null;
}

/** Says why changes do not arrive at the moment. */
function ConnectionBanner() {
	const chat = useChat();
	const { isConnected } = chat.activeConversation.value;
	const text = connectionTrouble(chat.unfinishedTurn.value !== null && !isConnected.value);
	return (
		text && (
			<p class="link" role="status">
				<Spinner size={15} class="spin" /> {text}
			</p>
		)
	);
}

/** The error of loading the conversation, and the action that helps. */
function LoadTrouble() {
	const chat = useChat();
	const active = chat.activeConversation.value;
	const trouble = active.trouble.value;
	return (
		trouble && (
			<div class="state" role="alert">
				<Alert size={22} />
				<p>{trouble.text}</p>
				{trouble.isGone ? (
					<button type="button" class="btn" onClick={() => void chat.navigateTo(null)}>
						<Plus size={16} /> New conversation
					</button>
				) : (
					<button type="button" class="btn" onClick={() => void active.load()}>
						<Redo size={16} /> Try again
					</button>
				)}
			</div>
		)
	);
}

/** The active conversation and the composer. */
export function ThreadView() {
	const active = useChat().activeConversation.value;
	const turns = active.turns.value;
	const sending = active.sending.value;
	const isShown = active.id.value !== null || sending !== null;
	const { box, inner, isAway, scrollToEnd, stuck } = useStickToEnd(active, isShown);
	usePrependAnchor(box, turns[0]?.peek().id);
	// A user who sends a message wants to see it.
	useLayoutEffect(() => {
		if (sending && box.current) {
			stuck.current = true;
			box.current.scrollTop = box.current.scrollHeight;
		}
	}, [sending]);
	if (!isShown) return <NewConversation />;
	return (
		<>
			<div class="scroll" ref={box} tabIndex={0} role="region" aria-label="Conversation">
				<div class="column" ref={inner}>
					<LoadTrouble />
					{active.isLoading.value && turns.length === 0 && (
						<>
							<p class="sr" role="status">
								Loading the conversation
							</p>
							<Skeleton />
						</>
					)}
					{active.earlierCursor.value && <EarlierMessages box={box} />}
					{turns.map((turn, index) => {
						const at = turn.peek().question?.at ?? turn.peek().answeredAt;
						const previous = turns[index - 1]?.peek().question?.at;
						const startsDay = at && (!previous || dayOf(previous) !== dayOf(at));
						return (
							<Fragment key={turn.peek().id}>
								{startsDay && (
									<ErrorBoundary of={at} fallback={() => null}>
										<Day at={at} />
									</ErrorBoundary>
								)}
								<TurnView turn={turn} isLast={index === turns.length - 1} />
							</Fragment>
						);
					})}
					{sending && (
						<section class="turn last">
							<UserMessage id="sending" text={sending.text} at={sending.at} state="sending" />
						</section>
					)}
				</div>
			</div>
			<div class="jump-row">
				{isAway && (
					<button
						type="button"
						class="jump"
						onClick={scrollToEnd}
						aria-label="Go to the latest message"
						title="Go to the latest message"
					>
						<ArrowDown size={18} />
					</button>
				)}
			</div>
			<div class="dock">
				<div class="dock-in">
					<ConnectionBanner />
					<Composer />
					<p class="fine">{settings.value?.agent_name} can be wrong. Check what matters.</p>
				</div>
			</div>
		</>
	);
}
