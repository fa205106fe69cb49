import { cleanup, render } from "@testing-library/preact";
import { afterEach, expect, test } from "vitest";
import type { ToolCall } from "../api/types";
import { ToolCard } from "./tool-card";

afterEach(cleanup);

const card = (message: string, status: ToolCall["status"] = "unknown") => {
	const call: ToolCall = {
		id: "call-1",
		tool_name: "add_task",
		parameters: { title: "Buy groceries" },
		status,
		error: { message },
	} as ToolCall;
	return render(<ToolCard call={call} state={status as never} />).container.textContent;
};

test("the server's error message of a stopped call starts with a capital letter", () => {
	const text = card("the user stopped the turn while the tool ran");
	expect(text).toContain("The user stopped the turn while the tool ran");
	expect(text).not.toContain("connection");
});

test("a tool's error message is shown unchanged", () => {
	expect(card("no such list", "failed" as ToolCall["status"])).toContain("no such list");
});
