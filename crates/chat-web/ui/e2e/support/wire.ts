import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Home } from "./server";

/** A way to a server that can be cut, while the server goes on. */
export class Wire {
	#sockets = new Set<Socket>();
	#down = false;
	#server = createServer((client) => {
		if (this.#down) {
			client.destroy();
			return;
		}
		const server = connect(this.home.port, "127.0.0.1");
		for (const [one, other] of [
			[client, server],
			[server, client],
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

	private constructor(private readonly home: Home) {}

	static async start(home: Home): Promise<Wire> {
		const wire = new Wire(home);
		await new Promise<void>((resolve) => wire.#server.listen(0, "127.0.0.1", resolve));
		wire.url = `http://127.0.0.1:${(wire.#server.address() as AddressInfo).port}`;
		return wire;
	}

	/** Breaks all connections, and lets no new ones through until `mend`. */
	cut() {
		this.#down = true;
		for (const socket of this.#sockets) socket.destroy();
	}

	mend() {
		this.#down = false;
	}

	stop() {
		this.cut();
		this.#server.close();
	}
}
