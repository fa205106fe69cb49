import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** Serves pages of another site. */
export async function startSite(
	answer: (path: string) => [type: string, body: string] | null,
): Promise<{ url: string; server: Server }> {
	const server = createServer((request, response) => {
		const found = answer(new URL(request.url ?? "/", "http://x").pathname);
		response.writeHead(found ? 200 : 404, { "content-type": found?.[0] ?? "text/plain" });
		response.end(found?.[1] ?? "");
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}
