import { ChatKitPanel } from "./chatkit";
import { ADDRESS, ChatPanel } from "./panel";

/*
 * The one script that a page loads to have a chat on it. It defines <chat-panel>, and, if its address ends in `?as=openai-chatkit`, that
 * element too, for pages that were written for OpenAI's. See docs/ui.md and docs/chatkit.md.
 */
const elements: [name: string, element: CustomElementConstructor][] = [["chat-panel", ChatPanel]];
if (ADDRESS.searchParams.get("as") === "openai-chatkit")
	elements.push(["openai-chatkit", ChatKitPanel]);
for (const [name, element] of elements)
	if (!customElements.get(name)) customElements.define(name, element);
