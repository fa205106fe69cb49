// A page as somebody wrote it for OpenAI's ChatKit in React; nothing in it knows this server but the addresses.
import { ChatKit, useChatKit } from "@openai/chatkit-react";
import { createElement, useEffect } from "react";
import { createRoot } from "react-dom/client";

const heard = [];
const hear =
	(name) =>
	(detail = null) =>
		heard.push([name, detail]);

function Chat() {
	const { control, ...methods } = useChatKit({
		api: { getClientSecret: async () => (await fetch("/token")).text() },
		theme: { colorScheme: "dark" },
		frameTitle: "Ask us",
		onReady: hear("ready"),
		onThreadChange: hear("thread"),
		onResponseStart: hear("start"),
		onResponseEnd: hear("end"),
		onError: ({ error }) => hear("error")(error.message),
	});
	useEffect(() => {
		window.chat = { heard, ...methods };
	});
	return createElement(ChatKit, { control, style: { blockSize: "600px" } });
}

createRoot(document.getElementById("root")).render(createElement(Chat));
