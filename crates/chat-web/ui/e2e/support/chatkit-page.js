// A page for OpenAI's ChatKit in React. Only the addresses in it are specific to this server.
import { ChatKit, useChatKit } from "@openai/chatkit-react";
import { createElement, useEffect } from "react";
import { createRoot } from "react-dom/client";

const events = [];
const record =
	(name) =>
	(detail = null) =>
		events.push([name, detail]);

function Chat() {
	const { control, ...methods } = useChatKit({
		api: { getClientSecret: async () => (await fetch("/token")).text() },
		theme: { colorScheme: "dark" },
		frameTitle: "Ask us",
		onReady: record("ready"),
		onThreadChange: record("thread"),
		onResponseStart: record("start"),
		onResponseEnd: record("end"),
		onError: ({ error }) => record("error")(error.message),
	});
	useEffect(() => {
		window.chat = { events, ...methods };
	});
	return createElement(ChatKit, { control, style: { blockSize: "600px" } });
}

createRoot(document.getElementById("root")).render(createElement(Chat));
