/** A change that one tab of a browser reports to the others. */
export interface TabMessage {
	kind: "changed" | "deleted";
	conversation: string;
}

/**
 * Connects the tabs of one browser. Other browsers learn of a change from the server, a few seconds
 * later.
 */
export class TabChannel {
	#channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("chat") : null;

	publish(message: TabMessage) {
		this.#channel?.postMessage(message);
	}

	subscribe(receive: (message: TabMessage) => void) {
		this.#channel?.addEventListener("message", (event: MessageEvent<TabMessage>) =>
			receive(event.data),
		);
	}
}
