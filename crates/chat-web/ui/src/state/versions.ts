import { api } from "../api/client";
import { emptyTurn, type Turn, turnsOf } from "./turn";

/** Reads the earlier answers to the message of a turn, the oldest first. */
export async function earlierVersions(turn: Turn): Promise<Turn[]> {
	const versions: Turn[] = [];
	for (let id = turn.retryOf; id; id = versions[0]?.retryOf) {
		const detail = await api.turn(id);
		const [found] = turnsOf(detail.messages);
		versions.unshift({
			...(found ?? emptyTurn(id, detail.status)),
			retryOf: detail.retry_of ?? undefined,
		});
	}
	return versions;
}
