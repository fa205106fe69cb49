import { api } from "./api/client";
import { followTurn, startedTurn } from "./api/stream";
import { agentName, isSignedIn, userId } from "./session/session";
import { browserStorage } from "./session/storage";
import { identifyTab } from "./session/tab-identity";
import { ChatStore } from "./state/chat-store";
import { ConversationList } from "./state/conversation-list";
import { DraftStore, watchDrafts } from "./state/draft-store";
import { animationFrames } from "./state/live-turn";
import { announce, notify } from "./state/notices";
import { TabChannel } from "./state/tab-channel";
import { isUnloading } from "./state/unloading";

/** Creates the chat's state and connects it to the server and the browser. */
export function createChat(): { chat: ChatStore; tabs: TabChannel } {
	const tabs = new TabChannel();
	const publish = tabs.publish.bind(tabs);
	const now = () => Date.now();
	const drafts = new DraftStore({ storage: browserStorage, tab: identifyTab(), userId, now });
	watchDrafts(drafts);
	const list = new ConversationList({ api, notify, publish });
	addEventListener("pagehide", () => list.flushDeletions());
	const chat = new ChatStore({
		api: {
			messages: api.messages,
			conversation: api.conversation,
			cancel: api.cancel,
			send: async (...message) => startedTurn(await api.send(...message)),
			retry: async (...turn) => startedTurn(await api.retry(...turn)),
			follow: followTurn,
		},
		drafts,
		list,
		now,
		schedule: animationFrames(),
		pushPath: (path) => history.pushState(null, "", path + location.search),
		replacePath: (path) => history.replaceState(null, "", path + location.search),
		announce,
		notify,
		publish,
		agentName,
		isSignedIn,
		isUnloading,
	});
	return { chat, tabs };
}
