import { ChatKitPanel } from "./chatkit";
import { ChatPanel, SCRIPT_URL } from "./panel";

/*
 * The script that other pages load to embed the chat. It defines <chat-panel>. With the address
 * `embed.js?as=openai-chatkit` it also defines <openai-chatkit>, for pages written for OpenAI's
 * ChatKit. See docs/ui.md and docs/chatkit.md.
 */
const elements: [name: string, element: CustomElementConstructor][] = [["chat-panel", ChatPanel]];
if (SCRIPT_URL.searchParams.get("as") === "openai-chatkit")
	elements.push(["openai-chatkit", ChatKitPanel]);
for (const [name, element] of elements)
	if (!customElements.get(name)) customElements.define(name, element);
