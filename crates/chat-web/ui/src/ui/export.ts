import { api, errorText } from "../api/client";
import { writeJson } from "../api/json";
import type { Conversation, Message, ToolCall } from "../api/types";
import { agentName, token } from "../session/session";
import { notify } from "../state/notices";

const PAGE_SIZE = 200;
/**
 * How long the browser may take to read the file before its memory is released, in milliseconds.
 */
const RELEASE_AFTER = 60_000;

async function allMessages(id: string, superseded: boolean): Promise<Message[]> {
	const all: Message[] = [];
	let before: string | undefined;
	do {
		const page = await api.messages(id, { limit: PAGE_SIZE, before, superseded });
		all.unshift(...page.messages);
		before = page.previous_cursor ?? undefined;
	} while (before);
	return all;
}

/** Puts a text into a code block whose fence the text does not contain. */
function fenced(text: string, lang: string): string {
	const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
	const fence = "`".repeat(longest + 1);
	return `${fence}${lang}\n${text}\n${fence}`;
}

function toolCallMarkdown(call: ToolCall): string {
	const took = call.duration_ms == null ? "" : `, ${call.duration_ms} ms`;
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

function messageMarkdown(message: Message, names: { user: string; assistant: string }): string {
	const calls = new Map(message.tool_calls.map((call) => [call.id, call]));
	const parts = message.parts ?? [{ type: "text" as const, text: message.content }];
	const body = parts.map((part) => {
		if (part.type === "text") return part.text;
		const call = calls.get(part.id);
		return call ? toolCallMarkdown(call) : "";
	});
	const failure = message.error ? `\n\n*Failed: ${message.error.message}*` : "";
	return `## ${names[message.role]}, ${message.created_at}\n\n${body.join("\n\n")}${failure}`;
}

/** A conversation as Markdown. */
export function asMarkdown(
	title: string,
	messages: Message[],
	names: { user: string; assistant: string },
): string {
	return `${[`# ${title}`, ...messages.map((message) => messageMarkdown(message, names))].join("\n\n")}\n`;
}

/** Saves a conversation as a file: as Markdown, or as JSON with earlier answers. */
export async function exportConversation(conversation: Conversation, format: "markdown" | "json") {
	try {
		const messages = await allMessages(conversation.id, format === "json");
		const names = {
			user: token.peek()?.name ?? "User",
			assistant: agentName() || "Assistant",
		};
		const text =
			format === "json"
				? `${writeJson({ ...conversation, messages })}\n`
				: asMarkdown(conversation.title, messages, names);
		const type = format === "json" ? "application/json" : "text/markdown";
		const link = document.createElement("a");
		link.href = URL.createObjectURL(new Blob([text], { type }));
		const name = conversation.title.replace(/[^\p{L}\p{N} ._-]+/gu, " ").trim() || "conversation";
		link.download = `${name}.${format === "json" ? "json" : "md"}`;
		link.click();
		setTimeout(() => URL.revokeObjectURL(link.href), RELEASE_AFTER);
	} catch (error) {
		notify(`Not exported. ${errorText(error)}`, { tone: "error" });
	}
}
