//! Rules that no compiler checks.

use std::path::Path;

use crate::import_cycles;
use crate::manifests;
use crate::steps::{Failed, output, root};

/// Most lines of a source file.
const MAX_LINES: usize = 750;

/// Longer files, each with the reason why it is not split.
const LONG_FILES: &[(&str, &str)] = &[(
    "crates/chat-domain/src/testing/store_contract.rs",
    "the contract suite of one port",
)];

/// Marks of unfinished work, split so that this file contains none.
const LEFTOVERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("TO", "DO:"),
    concat!("TO", "DO("),
    concat!("#[ig", "nore"),
    concat!("<<<<", "<<< "),
    concat!(">>>>", ">>> "),
];

/// Set phrases and their plain replacements, split so that this file contains none.
const PHRASES: &[(&str, &str)] = &[
    (concat!("an", "ew"), "again"),
    (concat!("for ", "ever"), "forever"),
    (concat!("in ", "passing"), "transient"),
    (concat!("there and ", "back"), "round trip"),
    (concat!("let ", "go of"), "release"),
    (concat!("lets ", "go of"), "releases"),
    (concat!("who", "soever"), "any"),
    (concat!("who", "ever"), "any"),
    (concat!("be", "side"), "next to"),
    (concat!("mean", "while"), "at the same time"),
    (concat!("goes", " on"), "continues"),
    (concat!("he", "ars"), "receives"),
    (concat!("st", "ands"), "is"),
    (concat!("to", "ld"), "gets"),
    (concat!("te", "lls"), "reports"),
    (concat!("is ", "begun"), "starts"),
];

/// Words that begin no sentence of a comment.
const OPENINGS: &[&str] = &["What ", "Who ", "Whose ", "Of what ", "That which "];

/// Texts that tests must not contain, each with the reason.
const FORBIDDEN_IN_TESTS: &[(&str, &str)] = &[
    (
        "\"/proc/",
        "may show the processes of another PID namespace; let the process write its id to a file",
    ),
    (
        "Command::new(\"unshare\")",
        "needs a privilege that containers lack",
    ),
];

/// Tests that distinguish a zombie from a running process, for which they need `/proc`.
const MAY_READ_PROC: &[&str] = &[
    "crates/chat-server/tests/it/process.rs",
    "crates/chat-tools-mcp/tests/it/children.rs",
];

/// Returns the violations of the rules.
pub fn faults() -> Result<Vec<String>, Failed> {
    let mut faults = manifests::faults(&manifests::packages()?)?;
    faults.extend(import_faults()?);
    let paths = machine_paths();
    for file in tracked()? {
        // A deleted file is listed until its deletion is committed.
        let Ok(bytes) = std::fs::read(root().join(&file)) else {
            continue;
        };
        // Other files are assets.
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        faults.extend(file_faults(&file, &text, &paths));
    }
    Ok(faults)
}

/// Prints all violations.
pub fn run() -> Result<(), Failed> {
    let faults = faults()?;
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    Err(Failed(format!("tidy: {} violations", faults.len())))
}

/// Returns cycles of imports between the files of a package.
fn import_faults() -> Result<Vec<String>, Failed> {
    let failed = |error: std::io::Error| Failed(format!("packages: {error}"));
    let mut packages = vec![root().join("xtask"), root().join("tests")];
    for folder in ["crates", "tests"] {
        for entry in std::fs::read_dir(root().join(folder)).map_err(failed)? {
            packages.push(entry.map_err(failed)?.path());
        }
    }
    let mut faults = Vec::new();
    for package in packages {
        let sources = package.join("src");
        if !sources.is_dir() {
            continue;
        }
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

/// Returns paths that exist on one machine only: home folders and this checkout.
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
    let allowed = LONG_FILES.iter().any(|(name, _)| *name == file);
    if is_source && lines > MAX_LINES && !allowed {
        faults.push(format!(
            "{file}: {lines} lines, more than {MAX_LINES}: split it, or say in \
                xtask/src/tidy.rs why it is one thing",
        ));
    }
    if allowed && lines <= MAX_LINES {
        faults.push(format!(
            "{file}: is no longer than {MAX_LINES} lines now: take it from the list in \
                xtask/src/tidy.rs",
        ));
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
        if is_source && let Some(opening) = OPENINGS.iter().find(|word| opens(line, word)) {
            faults.push(format!(
                "{place}: a comment begins with `{opening}`: name the thing itself"
            ));
        }
        if let Some(mark) = LEFTOVERS.iter().find(|mark| line.contains(**mark)) {
            faults.push(format!("{place}: `{mark}` marks something unfinished"));
        }
        if is_source && is_test(file) {
            let forbidden = FORBIDDEN_IN_TESTS
                .iter()
                .filter(|(text, _)| line.contains(text) && !MAY_READ_PROC.contains(&file));
            faults.extend(forbidden.map(|(text, reason)| format!("{place}: `{text}` {reason}")));
            if line.trim_start().starts_with("while ") && line.ends_with("{}") {
                faults.push(format!(
                    "{place}: a wait without a limit; use `chat_test_support::wait`, which \
                        names what is waited for",
                ));
            }
        }
    }
    faults
}

/// Whether the project's authors write the file's text.
fn is_prose(file: &str) -> bool {
    let extensions = ["md", "rs", "toml", "ts", "tsx", "yml"];
    let extension = Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extensions.contains(&extension))
}

/// Whether a line contains a phrase as whole words.
fn has_phrase(line: &str, phrase: &str) -> bool {
    line.split(phrase)
        .collect::<Vec<_>>()
        .windows(2)
        .any(|parts| {
            let [before, after] = parts else { return false };
            !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
        })
}

/// Whether a line is a comment that begins with these words.
fn opens(line: &str, words: &str) -> bool {
    let comment = line.trim_start().strip_prefix("//");
    let text = comment.map(|text| text.trim_start_matches(['/', '!']).trim_start());
    text.is_some_and(|text| text.starts_with(words))
}

/// Whether a file is a test. Benchmarks may depend on a machine.
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
        let count = |line: &str| file_faults("a.rs", line, &[]).len();
        assert_eq!(count("/// What says what comes next."), 1);
        assert_eq!(count("    // Whose turn it is."), 1);
        assert_eq!(count("/// Whatever it is, it says what it is."), 0);
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
