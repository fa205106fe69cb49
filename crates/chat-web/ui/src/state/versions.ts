import { api } from "../api/client";
import { emptyTurn, type Turn, turnsOf } from "./turn";

/** Earlier answers to the message of a turn, the oldest first. */
export async function earlierVersions(turn: Turn): Promise<Turn[]> {
	const versions: Turn[] = [];
	for (let of = turn.retryOf; of; of = versions[0]?.retryOf) {
		const detail = await api.turn(of);
		const [found] = turnsOf(detail.messages);
		versions.unshift({ ...(found ?? emptyTurn(of, detail.status)), retryOf: detail.retry_of });
	}
	return versions;
}
