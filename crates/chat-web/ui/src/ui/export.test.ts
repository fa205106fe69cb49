import { expect, test } from "vitest";
import type { Message } from "../api/types";
import { asMarkdown } from "./export";

test("Markdown has the author, time and text of each message, and each tool call", () => {
	const at = "2026-11-20T14:00:00Z";
	const common = { turn_id: "t", created_at: at, turn_status: "failed" as const };
	const messages: Message[] = [
		{ ...common, id: "u", role: "user", content: "What?", tool_calls: [] },
		{
			...common,
			id: "a",
			role: "assistant",
			content: "I look.",
			tool_calls: [
				{
					id: "c",
					tool_name: "look_*up*",
					parameters: { q: "```" },
					status: "succeeded",
					result: "x",
					executed_at: at,
					duration_ms: 5,
				},
			],
			parts: [
				{ type: "text", text: "I look." },
				{ type: "tool_call", id: "c" },
			],
			error: { code: "agent_timeout", message: "Too slow." },
		},
	];
	expect(asMarkdown("Title", messages, { user: "Ann", assistant: "Atlas" })).toMatchInlineSnapshot(`
    "# Title

    ## Ann, 2026-11-20T14:00:00Z

    What?

    ## Atlas, 2026-11-20T14:00:00Z

    I look.

    > Tool call: **look\\_\\*up\\*** (succeeded, 2026-11-20T14:00:00Z, 5 ms)

    Parameters:

    \`\`\`\`json
    {
      "q": "\`\`\`"
    }
    \`\`\`\`

    Result:

    \`\`\`json
    "x"
    \`\`\`

    *Failed: Too slow.*
    "
  `);
});
