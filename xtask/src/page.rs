//! The chat page: an npm project in `crates/chat-web/ui`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fingerprint;
use crate::steps::{self, Failed, Step, output, root};

/// Minimum Node.js version for the page's tools: major and minor.
const MIN_NODE_VERSION: (u32, u32) = (20, 19);

/// Names of Chromium programs.
const CHROMIUMS: &[&str] = &[
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
    "/usr/bin/google-chrome-stable",
];

/// Parts of the page's folder on which the built page does not depend.
const NOT_SOURCES: &[&str] = &["dist", "e2e", "example", "node_modules"];

fn folder() -> PathBuf {
    root().join("crates/chat-web/ui")
}

/// Checks that Node.js and npm are installed. The error says what is missing.
fn node() -> Result<(), Failed> {
    let missing = |what: &str| {
        Failed(format!(
            "{what}; the chat page needs Node.js {}.{} or later, with npm",
            MIN_NODE_VERSION.0, MIN_NODE_VERSION.1
        ))
    };
    let version = output("node", &["--version"]).map_err(|_| missing("`node` is not installed"))?;
    let version = String::from_utf8_lossy(&version).trim().to_owned();
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(MIN_NODE_VERSION.0), Some(MIN_NODE_VERSION.1)) {
        return Err(missing(&format!("`node` is {version}")));
    }
    output("npm", &["--version"])
        .map(drop)
        .map_err(|_| missing("`npm` is not installed"))
}

fn npm(name: &'static str, arguments: &[&str]) -> Step {
    Step::program(name, "npm", arguments, &folder())
}

/// Installs the locked dependencies unless they are installed.
fn install() -> Result<(), Failed> {
    node()?;
    let lock = folder().join("package-lock.json");
    let wanted =
        std::fs::read(&lock).map_err(|error| Failed(format!("{}: {error}", lock.display())))?;
    let mark = folder().join("node_modules/.installed");
    if std::fs::read(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    npm("install the page's tools", &["ci"]).run()?;
    std::fs::write(&mark, wanted).map_err(|error| Failed(format!("{}: {error}", mark.display())))
}

/// Builds the page unless the built page is up to date. Cargo would rebuild the server after an
/// unnecessary build of the page.
pub fn build() -> Result<(), Failed> {
    install()?;
    let mark = folder().join("node_modules/.built");
    let files = || {
        let sources = fingerprint::of_folder(&folder(), NOT_SOURCES)?;
        let built = fingerprint::of_folder(&folder().join("dist"), &[])?;
        Ok(format!("{sources:x} {built:x}"))
    };
    let failed = |error: std::io::Error| Failed(format!("{}: {error}", folder().display()));
    if std::fs::read_to_string(&mark).ok() == Some(files().map_err(failed)?) {
        return Ok(());
    }
    npm("build the page", &["run", "--silent", "build"]).run()?;
    std::fs::write(&mark, files().map_err(failed)?).map_err(failed)
}

/// Writes the page's types of the API from `docs/openapi.json`. Without Node.js it only says that
/// they were not written.
pub fn generate_types() -> Result<(), Failed> {
    if let Err(Failed(why)) = node() {
        eprintln!("The page's types of the API were not written: {why}.");
        return Ok(());
    }
    install()?;
    npm("write the page's types", &["run", "--silent", "generate"]).run()
}

/// Checks the format, lints and types of the page's code, and that its types of the API are those
/// of `docs/openapi.json`.
pub fn check() -> Result<(), Failed> {
    install()?;
    npm("check the page's code", &["run", "--silent", "check"]).run()
}

/// Runs all tests of the page: unit tests, and browser tests of the program in `target/debug`.
pub fn test(filter: &[&str]) -> Result<(), Failed> {
    let mut words = vec!["run", "--silent", "test", "--"];
    words.extend(filter);
    if filter.is_empty() {
        npm("unit tests of the page", &words).run()?;
    }
    browser("browser tests", "*.test.ts", "debug", filter)
}

/// Runs the tests that depend on the browser engine, in Chromium, Firefox and WebKitGTK, all of
/// which must be installed.
pub fn engines() -> Result<(), Failed> {
    program("debug")?;
    in_all_engines()
}

/// Runs these tests with the program in `target/debug`.
fn in_all_engines() -> Result<(), Failed> {
    browser("browser tests in all engines", "engines.ts", "debug", &[])
}

/// Programs for the tests of all engines besides Chromium: a description and the name.
const ENGINES: [(&str, &str); 3] = [
    ("Firefox", "firefox-esr"),
    ("WebKitGTK's driver", "WebKitWebDriver"),
    ("Xvfb", "Xvfb"),
];

/// Runs the tests of [`engines`] with the program in `target/debug` if their browsers are
/// installed. Otherwise prints why they are skipped.
pub fn engines_if_installed() -> Result<(), Failed> {
    let missing: Vec<&str> = ENGINES
        .iter()
        .filter(|(_, program)| steps::find(program).is_none())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return in_all_engines();
    }
    eprintln!(
        "skipped: browser tests in all engines (cargo xtask ui engines); missing: {}",
        missing.join(", ")
    );
    Ok(())
}

/// Builds the program with the current page into this folder of `target`.
pub fn program(profile: &str) -> Result<(), Failed> {
    build()?;
    // Cargo's name of the profile that is built into `debug`.
    let profile = if profile == "debug" { "dev" } else { profile };
    Step::cargo(
        "build the program",
        &[
            "build",
            "--locked",
            "--package",
            "chat-server",
            "--profile",
            profile,
        ],
    )
    .run()
}

/// Recreates the pictures of README.md and docs/ui.md.
pub fn screenshots() -> Result<(), Failed> {
    program("debug")?;
    browser("take pictures", "screenshots.ts", "debug", &[])
}

/// Measures the page.
pub fn bench() -> Result<(), Failed> {
    program("release")?;
    browser("measure the page", "bench.ts", "release", &[])
}

fn browser(name: &'static str, files: &str, profile: &str, filter: &[&str]) -> Result<(), Failed> {
    install()?;
    let chromium = chromium()?;
    let mut words = vec!["run", "--silent", "browser", "--"];
    words.extend(filter);
    let program = steps::target()?.join(profile).join("chat-server");
    let step = npm(name, &words)
        .env("CHAT_RUN", files)
        .env("CHROMIUM", &chromium);
    step.env("CHAT_SERVER", &program.display().to_string())
        .run()
}

/// Returns the browser for the tests. Installs it if this process is root on Debian.
fn chromium() -> Result<String, Failed> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Ok(named.to_string_lossy().into_owned());
    }
    let installed = || {
        CHROMIUMS
            .iter()
            .find(|place| Path::new(place).exists())
            .map(|place| (*place).to_owned())
    };
    if let Some(place) = installed() {
        return Ok(place);
    }
    let root = output("id", &["-u"]).is_ok_and(|id| id.trim_ascii() == b"0");
    if root && Path::new("/etc/debian_version").exists() {
        for arguments in [&["update"][..], &["install", "--yes", "chromium"]] {
            Step::program("install Chromium", "apt-get", arguments, Path::new("/")).run()?;
        }
    }
    installed().ok_or_else(|| {
        Failed(
            "Chromium is not installed; on Debian: apt-get install chromium. Or set CHROMIUM to \
            its path"
                .to_owned(),
        )
    })
}

/// Builds the page if Node.js is installed, then builds and runs the program.
pub fn serve(arguments: &[&str]) -> Result<(), Failed> {
    match node() {
        Ok(()) => build()?,
        Err(Failed(why)) => eprintln!("The chat page is left out: {why}."),
    }
    let mut words = vec!["run", "--release", "--package", "chat-server", "--"];
    words.extend(arguments);
    // The program runs in the current folder, where its database is.
    Step::cargo("serve", &words).here()?.run()
}

/// Builds the release: `target/dist/chat-server` with the page.
pub fn dist() -> Result<(), Failed> {
    // The release must contain the current page.
    program("release")?;
    let target = steps::target()?;
    let (made, shipped) = (target.join("release/chat-server"), target.join("dist"));
    let copied = std::fs::create_dir_all(&shipped)
        .and_then(|()| std::fs::copy(&made, shipped.join("chat-server")));
    copied.map_err(|error| Failed(format!("{}: {error}", shipped.display())))?;
    let version = Command::new(shipped.join("chat-server"))
        .arg("--version")
        .status();
    match version {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Failed("the built program does not run".to_owned())),
    }
}
