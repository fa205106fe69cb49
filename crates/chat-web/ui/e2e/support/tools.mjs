// An MCP server over standard input and output for the tests
// (https://modelcontextprotocol.io/specification/2025-06-18). `node tools.mjs AGENT`: the tool `wait`
// waits at a gate of the agent; the results of other tools come from the agent.
import { createInterface } from "node:readline";

const agent = process.argv[2];
const text = (value) => ({
	content: [{ type: "text", text: typeof value === "string" ? value : JSON.stringify(value) }],
});
const result = (name) => async () => text(await (await fetch(`${agent}/result/${name}`)).text());
const TOOLS = {
	// The JSON text is not parsed: its numbers have more digits than JavaScript keeps.
	echo: (args) => text(args.answer ?? ""),
	fail: (args) => ({ ...text(args.message ?? "It did not work."), isError: true }),
	wait: async (args) => {
		await fetch(`${agent}/gate/${encodeURIComponent(args.gate)}`);
		return text({ waited_for: args.gate });
	},
	orders_lookup: result("orders_lookup"),
	carrier_track: result("carrier_track"),
	contracts_read: result("contracts_read"),
	slots_book: ({ at }) =>
		at === "07:00"
			? { ...text("Another truck has that slot."), isError: true }
			: text({ booking: "DUI-88213", gate: 4, at }),
};

async function answer({ method, params }) {
	if (method === "initialize") {
		return {
			protocolVersion: params.protocolVersion,
			capabilities: { tools: {} },
			serverInfo: { name: "tests", version: "1" },
		};
	}
	if (method === "tools/list")
		return { tools: Object.keys(TOOLS).map((name) => ({ name, inputSchema: { type: "object" } })) };
	if (method === "tools/call") return TOOLS[params.name](params.arguments ?? {});
	return {};
}

for await (const line of createInterface({ input: process.stdin })) {
	const message = JSON.parse(line);
	if (message.id === undefined) continue;
	answer(message).then((result) =>
		process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", id: message.id, result })}\n`),
	);
}
