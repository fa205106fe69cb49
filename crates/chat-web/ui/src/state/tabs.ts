/** What tabs of one browser tell each other. Other browsers learn the same from the server, a little later. */
export interface News {
	kind: "changed" | "deleted";
	conversation: string;
}

const channel = "BroadcastChannel" in window ? new BroadcastChannel("chat") : null;

export function tellTabs(news: News) {
	channel?.postMessage(news);
}

export function onNews(hear: (news: News) => void) {
	channel?.addEventListener("message", (event: MessageEvent<News>) => hear(event.data));
}
