import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { TestServer } from "./server";

/** A proxy to a server whose connections can be broken while the server keeps running. */
export class BreakableProxy {
	#sockets = new Set<Socket>();
	#isDown = false;
	#server = createServer((client) => {
		if (this.#isDown) {
			client.destroy();
			return;
		}
		const upstream = connect(this.server.port, "127.0.0.1");
		for (const [one, other] of [
			[client, upstream],
			[upstream, client],
		] as const) {
			this.#sockets.add(one);
			one.on("close", () => {
				this.#sockets.delete(one);
				other.destroy();
			});
			one.on("error", () => one.destroy());
			one.pipe(other);
		}
	});
	url = "";

	private constructor(private readonly server: TestServer) {}

	static async start(server: TestServer): Promise<BreakableProxy> {
		const proxy = new BreakableProxy(server);
		await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
		proxy.url = `http://127.0.0.1:${(proxy.#server.address() as AddressInfo).port}`;
		return proxy;
	}

	/** Breaks all connections and rejects new ones until `restore`. */
	cut() {
		this.#isDown = true;
		for (const socket of this.#sockets) socket.destroy();
	}

	restore() {
		this.#isDown = false;
	}

	stop() {
		this.cut();
		this.#server.close();
	}
}
