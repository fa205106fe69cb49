//! The rules of the workspace's manifests: who may use whom, and what each inherits.

use std::path::PathBuf;

use serde_json::Value;

use crate::steps::{Failed, output};

/// Each package of ours, and those of ours that it may use. All arrows point at the domain; only
/// the server sees more than one adapter. Tests may use more: see [`FOR_TESTS`].
const ARROWS: &[(&str, &[&str])] = &[
    ("chat-domain", &[]),
    ("chat-migrations", &[]),
    ("chat-protocol", &["chat-domain"]),
    ("chat-store-seaorm", &["chat-domain", "chat-migrations"]),
    ("chat-agent-http", &["chat-domain"]),
    ("chat-tools-mcp", &["chat-domain"]),
    ("chat-demo", &["chat-domain"]),
    ("chat-web", &[]),
    (
        "chat-server",
        &[
            "chat-domain",
            "chat-protocol",
            "chat-store-seaorm",
            "chat-agent-http",
            "chat-tools-mcp",
            "chat-demo",
            "chat-web",
        ],
    ),
    ("chat-model", &[]),
    ("chat-simulation", &["chat-domain"]),
    ("chat-test-postgres", &[]),
    ("chat-test-support", &["chat-domain"]),
    (
        OUTSIDE_TESTS,
        &["chat-server", "chat-test-postgres", "chat-test-support"],
    ),
    ("xtask", &["chat-test-postgres"]),
];

/// What the tests of any package may use: the domain's fakes, a database, and the stubs that are
/// shared.
const FOR_TESTS: &[&str] = &["chat-domain", "chat-test-postgres", "chat-test-support"];

/// The demo's tests speak to its task list as the server does: through the adapter for MCP.
const FOR_TESTS_OF: &[(&str, &str)] = &[("chat-demo", "chat-tools-mcp")];

/// The package of tests from outside may use what it tests and what it needs to look inside.
const OUTSIDE_TESTS: &str = "chat-tests";

/// Technologies, and the packages that each stays in; then those that may use it in their tests.
const CONFINED: &[(&str, &[&str], &[&str])] = &[
    ("sea-orm", &["chat-store-seaorm", "chat-migrations"], &[]),
    (
        "sea-orm-migration",
        &["chat-store-seaorm", "chat-migrations"],
        &[],
    ),
    (
        "sqlx",
        &["chat-demo", "chat-store-seaorm", OUTSIDE_TESTS],
        &[],
    ),
    ("actix-web", &["chat-server", "chat-test-support"], &[]),
    ("rmcp", &["chat-tools-mcp", "chat-demo"], &[]),
    (
        "reqwest",
        &["chat-agent-http", OUTSIDE_TESTS],
        &["chat-server", "chat-test-support"],
    ),
];

/// All that the domain may use from outside: no format, no transport, no database.
const DOMAIN_USES: &[&str] = &[
    "async-trait",
    "futures-util",
    "mockall",
    "thiserror",
    "tokio",
    "tracing",
    "uuid",
];

/// What every package takes from the workspace.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// A package as its manifest describes it.
pub struct Package {
    name: String,
    manifest: PathBuf,
    uses: Vec<Use>,
}

struct Use {
    name: String,
    in_tests_only: bool,
}

/// The packages of the workspace.
pub fn packages() -> Result<Vec<Package>, Failed> {
    let json = output(
        "cargo",
        &[
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ],
    )?;
    let metadata: Value = serde_json::from_slice(&json)
        .map_err(|error| Failed(format!("cargo metadata: {error}")))?;
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let list = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    Ok(list(&metadata, "packages")
        .iter()
        .map(|package| Package {
            name: text(package, "name"),
            manifest: text(package, "manifest_path").into(),
            uses: list(package, "dependencies")
                .iter()
                .map(|used| Use {
                    name: text(used, "name"),
                    in_tests_only: text(used, "kind") == "dev",
                })
                .collect(),
        })
        .collect())
}

/// What breaks the rules.
pub fn faults(packages: &[Package]) -> Result<Vec<String>, Failed> {
    let mut faults = Vec::new();
    for package in packages {
        faults.extend(layer_faults(package));
        let text = std::fs::read_to_string(&package.manifest)
            .map_err(|error| Failed(format!("{}: {error}", package.manifest.display())))?;
        faults.extend(
            manifest_faults(&text)
                .into_iter()
                .map(|fault| format!("{}: Cargo.toml: {fault}", package.name)),
        );
    }
    Ok(faults)
}

fn layer_faults(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, arrows)) = ARROWS.iter().find(|(ours, _)| *ours == name) else {
        return vec![format!(
            "{name}: a new package needs its arrows: add it to xtask/src/manifests.rs"
        )];
    };
    let mut faults = Vec::new();
    for used in &package.uses {
        let other = used.name.as_str();
        let ours = ARROWS.iter().any(|(ours, _)| *ours == other);
        let free = used.in_tests_only
            && (name == OUTSIDE_TESTS
                || FOR_TESTS.contains(&other)
                || FOR_TESTS_OF.contains(&(name, other)));
        if ours && !free && !arrows.contains(&other) {
            faults.push(format!(
                "{name}: must not use {other}: the arrows of the architecture point another way"
            ));
        }
        if let Some((_, homes, in_tests)) = CONFINED
            .iter()
            .find(|(technology, ..)| *technology == other)
            && !homes.contains(&name)
            && !(used.in_tests_only && in_tests.contains(&name))
        {
            faults.push(format!(
                "{name}: must not use {other}: it stays in {}",
                homes.join(", ")
            ));
        }
        if name == "chat-domain" && !used.in_tests_only && !DOMAIN_USES.contains(&other) {
            faults.push(format!(
                "{name}: must not use {other}: the domain knows no technology"
            ));
        }
    }
    faults
}

fn manifest_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut section = "";
    let mut inherits_lints = false;
    let mut inherited = Vec::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            continue;
        }
        let from_workspace = line.replace(' ', "").contains("workspace=true");
        match section {
            "package" if from_workspace => inherited.extend(line.split('.').next()),
            "lints" => inherits_lints |= from_workspace,
            section if section.ends_with("dependencies") && !from_workspace => {
                faults.push(format!(
                    "`{line}`: versions are named in the workspace's manifest alone"
                ));
            }
            _ => {}
        }
    }
    if !inherits_lints {
        faults.push("has no `[lints] workspace = true`".to_owned());
    }
    for field in INHERITED.iter().filter(|field| !inherited.contains(field)) {
        faults.push(format!("has no `{field}.workspace = true`"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[(&str, bool)]) -> Package {
        let uses = uses
            .iter()
            .map(|(name, in_tests_only)| Use {
                name: (*name).to_owned(),
                in_tests_only: *in_tests_only,
            })
            .collect();
        Package {
            name: name.to_owned(),
            manifest: PathBuf::new(),
            uses,
        }
    }

    #[test]
    fn adapters_do_not_know_each_other() {
        assert_eq!(
            layer_faults(&package(
                "chat-agent-http",
                &[("chat-domain", false), ("reqwest", false)]
            )),
            [""; 0]
        );
        assert_eq!(
            layer_faults(&package("chat-agent-http", &[("chat-tools-mcp", false)])).len(),
            1
        );
        assert_eq!(
            layer_faults(&package("chat-agent-http", &[("chat-tools-mcp", true)])).len(),
            1
        );
        assert_eq!(
            layer_faults(&package(
                "chat-store-seaorm",
                &[("chat-test-support", true)]
            )),
            [""; 0]
        );
        assert_eq!(
            layer_faults(&package(
                "chat-store-seaorm",
                &[("chat-test-support", false)]
            ))
            .len(),
            1
        );
        assert_eq!(
            layer_faults(&package("chat-tests", &[("chat-store-seaorm", true)])),
            [""; 0]
        );
    }

    #[test]
    fn technologies_stay_at_home() {
        assert_eq!(
            layer_faults(&package("chat-server", &[("sea-orm", false)])).len(),
            1
        );
        assert_eq!(
            layer_faults(&package("chat-protocol", &[("actix-web", true)])).len(),
            1
        );
        assert_eq!(
            layer_faults(&package("chat-server", &[("reqwest", true)])),
            [""; 0]
        );
        assert_eq!(
            layer_faults(&package("chat-server", &[("reqwest", false)])).len(),
            1
        );
        assert_eq!(
            layer_faults(&package("chat-domain", &[("serde_json", false)])).len(),
            1
        );
        assert_eq!(
            layer_faults(&package("chat-domain", &[("proptest", true)])),
            [""; 0]
        );
    }

    #[test]
    fn packages_that_nobody_placed_are_noticed() {
        assert_eq!(layer_faults(&package("chat-new", &[])).len(), 1);
    }

    #[test]
    fn manifests_inherit() {
        let good = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
                    license.workspace = true\npublish.workspace = true\n\n[dependencies]\nserde.workspace = true\n\
                    tokio = { workspace = true, features = [\"rt\"] }\n\n[lints]\nworkspace = true\n";
        assert_eq!(manifest_faults(good), [""; 0]);
        assert_eq!(
            manifest_faults(&good.replace("license.workspace = true", "license = \"MIT\"")).len(),
            1
        );
        assert_eq!(
            manifest_faults(&good.replace("serde.workspace = true", "serde = \"1\"")).len(),
            1
        );
        assert_eq!(
            manifest_faults(&good.replace("[lints]\nworkspace = true", "")).len(),
            1
        );
    }
}
