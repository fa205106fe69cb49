import Database from "libsql";

export type Row = Record<string, unknown>;

/** Opens a server's database directly. */
export function withDatabase<T>(
	path: string,
	use: (all: (sql: string) => Row[], run: (sql: string) => void) => T,
): T {
	const database = new Database(path);
	try {
		return use(
			(sql) => database.prepare(sql).all() as Row[],
			(sql) => database.exec(sql),
		);
	} finally {
		database.close();
	}
}

/** A UUID as the API writes it, from its bytes. */
export const uuid = (bytes: unknown) =>
	Buffer.from(bytes as ArrayBuffer)
		.toString("hex")
		.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
