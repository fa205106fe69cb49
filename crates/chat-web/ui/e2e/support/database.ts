import { readFileSync, writeFileSync } from 'node:fs';
import initSqlJs, { type SqlValue } from 'sql.js';

/** Where a database says that it has a write-ahead log. */
const JOURNAL = 18;

/** Reads the database of a server that has stopped, and so has written all of it into one file; `change` may change it. */
export async function withDatabase<T>(path: string, use: (query: (sql: string) => Record<string, SqlValue>[]) => T): Promise<T> {
  const library = await initSqlJs();
  const file = readFileSync(path);
  const mode = file.subarray(JOURNAL, JOURNAL + 2);
  const before = Buffer.from(mode);
  // This reader has no shared memory, which a log would need.
  mode.fill(1);
  const database = new library.Database(file);
  try {
    const used = use((sql) => {
      const [result] = database.exec(sql);
      return (result?.values ?? []).map((row) => Object.fromEntries(row.map((value, at) => [result?.columns[at] ?? '', value])));
    });
    const after = Buffer.from(database.export());
    before.copy(after, JOURNAL);
    writeFileSync(path, after);
    return used;
  } finally {
    database.close();
  }
}
