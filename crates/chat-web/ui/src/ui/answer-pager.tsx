import { useState } from "preact/hooks";
import { errorText } from "../api/client";
import { notify } from "../state/notices";
import type { Turn } from "../state/turn";
import { earlierVersions } from "../state/versions";
import { IconButton } from "./icon-button";
import { Chevron } from "./icons";

/** Pages through the answers to the same message. Earlier ones are read on demand. */
export function AnswerPager({
	turn,
	shown,
	show,
}: {
	turn: Turn;
	shown: Turn | null;
	show: (version: Turn | null) => void;
}) {
	const [versions, setVersions] = useState<Turn[] | null>(null);
	const [isLoading, setLoading] = useState(false);
	const index = versions && shown ? versions.findIndex(({ id }) => id === shown.id) : null;
	const move = async (offset: number) => {
		let all = versions;
		if (!all) {
			setLoading(true);
			try {
				all = await earlierVersions(turn);
				setVersions(all);
			} catch (error) {
				notify(errorText(error), { tone: "error" });
				return;
			} finally {
				setLoading(false);
			}
		}
		show(all[(index ?? all.length) + offset] ?? null);
	};
	return (
		<span class="pager" role="group" aria-label="Answers to this message">
			<IconButton
				label="Earlier answer"
				disabled={isLoading || index === 0}
				onClick={() => void move(-1)}
			>
				<Chevron size={15} class="flip" />
			</IconButton>
			{versions ? (
				<span>
					{(index ?? versions.length) + 1}
					<span class="faint"> / {versions.length + 1}</span>
				</span>
			) : (
				<span class="faint">Answered again</span>
			)}
			<IconButton label="Later answer" disabled={index === null} onClick={() => void move(1)}>
				<Chevron size={15} />
			</IconButton>
		</span>
	);
}
