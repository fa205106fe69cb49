//! The rules no compiler holds.

use std::path::Path;

use crate::import_cycles;
use crate::manifests;
use crate::steps::{Failed, output, root};

/// The longest a source file may be.
const MAX_LINES: usize = 750;

/// Longer files, each with the reason why it is one thing.
const LONG: &[(&str, &str)] = &[(
    "crates/chat-domain/src/testing/store_contract.rs",
    "the contract of one port, case after case",
)];

/// Marks of unfinished work, in pieces so that this file has none.
const LEFTOVERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("TO", "DO:"),
    concat!("TO", "DO("),
    concat!("#[ig", "nore"),
    concat!("<<<<", "<<< "),
    concat!(">>>>", ">>> "),
];

/// Phrases that plain technical English has other words for, each with one, in pieces so that this
/// file has none.
const PHRASES: &[(&str, &str)] = &[
    (concat!("an", "ew"), "again"),
    (concat!("for ", "ever"), "forever"),
    (concat!("in ", "passing"), "transient"),
    (concat!("there and ", "back"), "round trip"),
    (concat!("let ", "go of"), "release"),
    (concat!("lets ", "go of"), "releases"),
    (concat!("who", "soever"), "any"),
];

/// What tests may not contain, each with the reason.
const IN_TESTS: &[(&str, &str)] = &[
    (
        "\"/proc/",
        "may show the processes of another PID namespace; let the process write down its id",
    ),
    (
        "Command::new(\"unshare\")",
        "needs a privilege that a container does not give",
    ),
];

/// Tests that must tell a process that has ended and was not reaped from one that runs, which only
/// `/proc` does.
const TELLS_ZOMBIES: &[&str] = &[
    "crates/chat-server/tests/it/process.rs",
    "crates/chat-tools-mcp/tests/it/children.rs",
];

/// What breaks the rules, one sentence each.
pub fn faults() -> Result<Vec<String>, Failed> {
    let mut faults = manifests::faults(&manifests::packages()?)?;
    faults.extend(import_faults()?);
    let paths = machine_paths();
    for file in tracked()? {
        // A file may be deleted and not yet committed so.
        let Ok(bytes) = std::fs::read(root().join(&file)) else {
            continue;
        };
        // What is not text is an asset.
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        faults.extend(file_faults(&file, &text, &paths));
    }
    Ok(faults)
}

/// Names all faults.
pub fn run() -> Result<(), Failed> {
    let faults = faults()?;
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    Err(Failed(format!("tidy: {} to mend", faults.len())))
}

/// Files of a package that import each other.
fn import_faults() -> Result<Vec<String>, Failed> {
    let failed = |error: std::io::Error| Failed(format!("packages: {error}"));
    let mut packages = vec![root().join("xtask")];
    for entry in std::fs::read_dir(root().join("crates")).map_err(failed)? {
        packages.push(entry.map_err(failed)?.path());
    }
    let mut faults = Vec::new();
    for package in packages {
        let sources = package.join("src");
        let cycles = import_cycles::faults(&sources).map_err(failed)?;
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        faults.extend(cycles.iter().map(|cycle| format!("{name}: {cycle}")));
    }
    Ok(faults)
}

fn tracked() -> Result<Vec<String>, Failed> {
    let names = output(
        "git",
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
    )?;
    Ok(String::from_utf8_lossy(&names)
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Paths that mean something on one machine only: where people's homes are, and this checkout.
fn machine_paths() -> Vec<String> {
    let mut paths = vec![
        concat!("/ho", "me/").to_owned(),
        concat!("/Us", "ers/").to_owned(),
        root().display().to_string(),
    ];
    if let Some(home) = std::env::home_dir().filter(|home| home.components().count() > 1) {
        paths.push(format!("{}/", home.display()));
    }
    paths
}

fn file_faults(file: &str, text: &str, machine_paths: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let is_source = Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "rs");
    let lines = text.lines().count();
    let allowed = LONG.iter().any(|(name, _)| *name == file);
    if is_source && lines > MAX_LINES && !allowed {
        faults.push(format!("{file}: {lines} lines, more than {MAX_LINES}: split it, or say in xtask/src/tidy.rs why it is one thing"));
    }
    if allowed && lines <= MAX_LINES {
        faults.push(format!("{file}: is no longer than {MAX_LINES} lines now: take it from the list in xtask/src/tidy.rs"));
    }
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        if let Some(path) = machine_paths
            .iter()
            .find(|path| line.contains(path.as_str()))
        {
            faults.push(format!("{place}: `{path}` is a path of one machine"));
        }
        let phrase = PHRASES.iter().find(|(phrase, _)| has_phrase(line, phrase));
        if let Some((phrase, better)) = phrase.filter(|_| is_prose(file)) {
            faults.push(format!(
                "{place}: `{phrase}`: say `{better}`, or as docs/STYLE.md has it"
            ));
        }
        if let Some(mark) = LEFTOVERS.iter().find(|mark| line.contains(**mark)) {
            faults.push(format!("{place}: `{mark}` marks something unfinished"));
        }
        if is_source && is_test(file) {
            let forbidden = IN_TESTS
                .iter()
                .filter(|(text, _)| line.contains(text) && !TELLS_ZOMBIES.contains(&file));
            faults.extend(forbidden.map(|(text, reason)| format!("{place}: `{text}` {reason}")));
            if line.trim_start().starts_with("while ") && line.ends_with("{}") {
                faults.push(format!("{place}: a wait without a limit; use `chat_test_support::wait`, which names what is waited for"));
            }
        }
    }
    faults
}

/// Whether people of the project write the file's words.
fn is_prose(file: &str) -> bool {
    let extensions = ["md", "rs", "toml", "ts", "tsx", "yml"];
    let extension = Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extensions.contains(&extension))
}

/// Whether a line has a phrase as whole words.
fn has_phrase(line: &str, phrase: &str) -> bool {
    line.split(phrase)
        .collect::<Vec<_>>()
        .windows(2)
        .any(|parts| {
            let [before, after] = parts else { return false };
            !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
        })
}

/// Whether a file belongs to tests. Benchmarks may be bound to a machine.
fn is_test(file: &str) -> bool {
    (file.starts_with("tests/") || file.contains("/tests/")) && !file.starts_with("tests/benches/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let faults = faults().unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn long_files_are_noticed() {
        assert_eq!(file_faults("a.rs", &"\n".repeat(MAX_LINES), &[]), [""; 0]);
        assert_eq!(
            file_faults("a.rs", &"\n".repeat(MAX_LINES + 1), &[]).len(),
            1
        );
        assert_eq!(
            file_faults("a.md", &"\n".repeat(MAX_LINES + 1), &[]),
            [""; 0]
        );
    }

    #[test]
    fn tests_that_wait_without_a_limit_or_need_a_machine_of_their_own_are_noticed() {
        let lines = [
            "read(\"/proc/7/stat\")",
            "Command::new(\"unshare\")",
            "    while !is_ready().await {}",
        ];
        for line in lines {
            for (file, count) in [
                ("tests/it/a.rs", 1),
                ("crates/a/tests/it/a.rs", 1),
                ("tests/benches/a.rs", 0),
                ("crates/a/src/a.rs", 0),
            ] {
                assert_eq!(file_faults(file, line, &[]).len(), count, "{file}: {line}");
            }
        }
    }

    #[test]
    fn set_phrases_are_noticed_as_whole_words() {
        for (phrase, _) in PHRASES {
            let count = |line: &str| file_faults("a.md", line, &[]).len();
            assert_eq!(count(&format!("It is {phrase}.")), 1, "{phrase}");
            assert_eq!(count(&format!("x{phrase}x")), 0, "{phrase}");
        }
    }

    #[test]
    fn leftovers_and_paths_of_one_machine_are_noticed_with_their_line() {
        let text = format!(
            "fine\n// {} later\nopen(\"/srv/checkout/x\")\n",
            LEFTOVERS[0]
        );
        let faults = file_faults("a.rs", &text, &["/srv/checkout".to_owned()]);
        assert!(
            faults.len() == 2
                && faults[0].starts_with("a.rs:2: ")
                && faults[1].starts_with("a.rs:3: "),
            "{faults:?}"
        );
    }
}
