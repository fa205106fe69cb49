//! The reference of all settings, in Markdown.

use std::fmt::Write;

use super::ROWS;

/// The text of `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for row in ROWS {
        if row.section != section {
            section = row.section;
            // Writing to a string cannot fail.
            let _ = write!(
                page,
                "\n## {section}\n\n| variable | key | default | meaning |\n|---|---|---|---|\n"
            );
        }
        let default = row
            .default
            .map_or("unset".to_owned(), |default| format!("`{default}`"));
        let meaning = row
            .doc
            .iter()
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join(" ")
            .replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {default} | {meaning} |",
            row.variable, row.key
        );
    }
    page.push_str(TAIL);
    page
}

const HEAD: &str = "\
<!-- Generated from crates/chat-server/src/config.rs by `cargo xtask docs`. Do not edit. -->
# Configuration

Settings are environment variables, or keys of a TOML file named by `--config FILE` (or `CHAT_CONFIG`). A variable wins
over the file, the file over the default. White space around a value is removed, so that a file of variables may have Windows line ends; a
variable that is empty then counts as unset. A key that the file should not have,
and a value that is wrong, stop the server before it starts, with a sentence that names the setting (exit code 2).
A variable that begins with `CHAT_` and is not in this list is named in a warning in the log.

Times are a number with `ms`, `s`, `m` or `h`; sizes are a number of bytes, or one with `KiB` or `MiB`.
";

const TAIL: &str = "
## The command line

| argument | meaning |
|---|---|
| `--config FILE` | reads this TOML file |
| `--no-migrate` | does not bring the database's schema up to date, and refuses to start if it is not |
| `--version`, `--help` | says what they say |

## Exit codes

| code | meaning |
|---|---|
| 0 | stopped by SIGTERM or SIGINT; what still ran was handed over |
| 1 | a fault while running |
| 2 | the command line or the configuration is wrong |
| 3 | the address cannot be listened on: the port is taken, say |
| 4 | the database cannot be opened: its folder cannot be made, it is not writable, it is not a database |
| 5 | the database is in use by another server |
| 6 | the schema is not up to date, and `--no-migrate` was given |
| 130 | a second SIGINT or SIGTERM came while it was stopping |
";
