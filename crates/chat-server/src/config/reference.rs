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

Settings are environment variables, or keys of a TOML file that `--config FILE` (or `CHAT_CONFIG`)
names. A variable takes precedence over the file, the file over the default.

- White space around a value is removed, so that a file of variables may have Windows line ends.
  An empty variable counts as unset.
- An unknown key in the file and an invalid value stop the server at its start with exit code 2 and
  an error that names the setting.
- A variable that begins with `CHAT_` and is not in this list is named in a warning in the log.
- Times are a number with `ms`, `s`, `m` or `h`. Sizes are a number of bytes, or a number with `KiB`
  or `MiB`.
";

const TAIL: &str = "
## The command line

| argument | meaning |
|---|---|
| `--config FILE` | reads this TOML file |
| `--no-migrate` | does not migrate the database's schema; fails if migrations are pending |
| `--version`, `--help` | prints the version, or the arguments |

## Exit codes

| code | meaning |
|---|---|
| 0 | stopped by SIGTERM or SIGINT; running turns were handed over |
| 1 | an error while running |
| 2 | the command line or the configuration is invalid |
| 3 | the address is not available, for example because the port is in use |
| 4 | the database cannot be opened: no folder, not writable, or not a database |
| 5 | the database is in use by another server |
| 6 | migrations are pending, and `--no-migrate` was given |
| 130 | a second SIGINT or SIGTERM during the shutdown |
";
