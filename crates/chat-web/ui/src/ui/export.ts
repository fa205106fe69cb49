import { api } from "../api/client";
import { writeJson } from "../api/json";
import type { Conversation, Message, ToolCall } from "../api/types";
import { settings, token } from "../session/session";
import { sentence } from "../state/list";
import { tell } from "../state/notices";

const PAGE = 200;

async function allMessages(id: string, superseded: boolean): Promise<Message[]> {
	const all: Message[] = [];
	let before: string | undefined;
	do {
		const page = await api.messages(id, { limit: PAGE, before, superseded });
		all.unshift(...page.messages);
		before = page.previous_cursor;
	} while (before);
	return all;
}

/** A fence that the text does not hold. */
function fenced(text: string, lang: string): string {
	const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
	const fence = "`".repeat(longest + 1);
	return `${fence}${lang}\n${text}\n${fence}`;
}

function callText(call: ToolCall): string {
	const took = call.duration_ms === undefined ? "" : `, ${call.duration_ms} ms`;
	const lines = [
		`> Tool call: **${call.tool_name.replace(/([\\`*_[\]<>])/g, "\\$1")}** (${call.status}, ${call.executed_at}${took})`,
	];
	lines.push("", "Parameters:", "", fenced(writeJson(call.parameters), "json"));
	if (call.error)
		lines.push("", "Error:", "", fenced(`${call.error.code}: ${call.error.message}`, ""));
	else if (call.result !== undefined)
		lines.push("", "Result:", "", fenced(writeJson(call.result), "json"));
	return lines.join("\n");
}

function messageText(message: Message, names: { user: string; assistant: string }): string {
	const calls = new Map(message.tool_calls.map((call) => [call.id, call]));
	const parts = message.parts ?? [{ type: "text" as const, text: message.content }];
	const body = parts.map((part) => {
		if (part.type === "text") return part.text;
		const call = calls.get(part.id);
		return call ? callText(call) : "";
	});
	const fate = message.error ? `\n\n*Failed: ${message.error.message}*` : "";
	return `## ${names[message.role]}, ${message.created_at}\n\n${body.join("\n\n")}${fate}`;
}

export function asMarkdown(
	title: string,
	messages: Message[],
	names: { user: string; assistant: string },
): string {
	return `${[`# ${title}`, ...messages.map((message) => messageText(message, names))].join("\n\n")}\n`;
}

/** Saves a conversation as a file: for reading as Markdown, or all of it, earlier answers included, as JSON. */
export async function download(conversation: Conversation, form: "markdown" | "json") {
	try {
		const messages = await allMessages(conversation.id, form === "json");
		const names = {
			user: token.peek()?.name ?? "User",
			assistant: settings.peek()?.agent_name ?? "Assistant",
		};
		const text =
			form === "json"
				? `${writeJson({ ...conversation, messages })}\n`
				: asMarkdown(conversation.title, messages, names);
		const type = form === "json" ? "application/json" : "text/markdown";
		const link = document.createElement("a");
		link.href = URL.createObjectURL(new Blob([text], { type }));
		const name = conversation.title.replace(/[^\p{L}\p{N} ._-]+/gu, " ").trim() || "conversation";
		link.download = `${name}.${form === "json" ? "json" : "md"}`;
		link.click();
		setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
	} catch (error) {
		tell(`Not exported. ${sentence(error)}`, { tone: "error" });
	}
}
