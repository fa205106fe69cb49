//! Rules for the manifests of the workspace: allowed dependencies and inherited fields.

use std::path::PathBuf;

use serde_json::Value;

use crate::steps::{self, Failed};

/// Each package of the workspace, and the packages of the workspace that it may use. All arrows
/// point to the domain; only the server uses several adapters. Tests may use more: see
/// [`TEST_DEPENDENCIES`].
const ALLOWED_DEPENDENCIES: &[(&str, &[&str])] = &[
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
    (
        "chat-simulation",
        &["chat-domain", "chat-store-seaorm", "chat-test-postgres"],
    ),
    ("chat-test-postgres", &[]),
    ("chat-test-support", &["chat-domain"]),
    (
        INTEGRATION_TESTS,
        &["chat-server", "chat-test-postgres", "chat-test-support"],
    ),
    ("xtask", &["chat-test-postgres"]),
];

/// Packages that the tests of every package may use: the domain's fakes, a database, and shared
/// test doubles.
const TEST_DEPENDENCIES: &[&str] = &["chat-domain", "chat-test-postgres", "chat-test-support"];

/// The demo's tests reach its task list over MCP, as the server does.
const EXTRA_TEST_DEPENDENCIES: &[(&str, &str)] = &[("chat-demo", "chat-tools-mcp")];

/// The package of tests from outside, which may use everything that it tests.
const INTEGRATION_TESTS: &str = "chat-tests";

/// The packages that may switch on the feature `testing` of another one: no server is built of
/// them.
const TEST_PACKAGES: &[&str] = &["chat-simulation", "chat-test-support"];

/// Technologies, the packages that may use each, and those that may use it in tests.
const CONFINED: &[(&str, &[&str], &[&str])] = &[
    ("sea-orm", &["chat-store-seaorm", "chat-migrations"], &[]),
    (
        "sea-orm-migration",
        &["chat-store-seaorm", "chat-migrations"],
        &[],
    ),
    (
        "sqlx",
        &["chat-demo", "chat-store-seaorm", INTEGRATION_TESTS],
        &[],
    ),
    ("actix-web", &["chat-server", "chat-test-support"], &[]),
    ("rmcp", &["chat-tools-mcp", "chat-demo"], &[]),
    (
        "reqwest",
        &["chat-agent-http", INTEGRATION_TESTS],
        &["chat-server", "chat-test-support"],
    ),
];

/// External dependencies of the domain: no format, no transport, no database.
const DOMAIN_DEPENDENCIES: &[&str] = &[
    "async-trait",
    "futures-util",
    "mockall",
    "thiserror",
    "tokio",
    "tracing",
    "uuid",
];

/// Fields that every package inherits from the workspace.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// A package according to its manifest.
pub struct Package {
    name: String,
    manifest: PathBuf,
    uses: Vec<Use>,
}

struct Use {
    name: String,
    is_dev_dependency: bool,
    /// Whether it switches on the feature `testing`.
    is_for_testing: bool,
}

/// Returns the packages of the workspace.
pub fn packages() -> Result<Vec<Package>, Failed> {
    let metadata = steps::metadata()?;
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
                    is_dev_dependency: text(used, "kind") == "dev",
                    is_for_testing: list(used, "features").contains(&Value::from("testing")),
                })
                .collect(),
        })
        .collect())
}

/// Returns the violations of the rules.
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
    let Some((_, arrows)) = ALLOWED_DEPENDENCIES.iter().find(|(ours, _)| *ours == name) else {
        return vec![format!(
            "{name}: new package without allowed dependencies; add it to xtask/src/manifests.rs"
        )];
    };
    let mut faults = Vec::new();
    for used in &package.uses {
        let other = used.name.as_str();
        let ours = ALLOWED_DEPENDENCIES.iter().any(|(ours, _)| *ours == other);
        let free = used.is_dev_dependency
            && (name == INTEGRATION_TESTS
                || TEST_DEPENDENCIES.contains(&other)
                || EXTRA_TEST_DEPENDENCIES.contains(&(name, other)));
        if ours && !free && !arrows.contains(&other) {
            faults.push(format!(
                "{name}: must not use {other}: docs/ARCHITECTURE.md does not allow this dependency"
            ));
        }
        if used.is_for_testing && !used.is_dev_dependency && !TEST_PACKAGES.contains(&name) {
            faults.push(format!(
                "{name}: must not switch on the feature `testing` of {other} outside of its tests"
            ));
        }
        if let Some((_, homes, in_tests)) = CONFINED
            .iter()
            .find(|(technology, ..)| *technology == other)
            && !homes.contains(&name)
            && !(used.is_dev_dependency && in_tests.contains(&name))
        {
            faults.push(format!(
                "{name}: must not use {other}: only these packages may: {}",
                homes.join(", ")
            ));
        }
        if name == "chat-domain" && !used.is_dev_dependency && !DOMAIN_DEPENDENCIES.contains(&other)
        {
            faults.push(format!(
                "{name}: must not use {other}: the domain does not depend on technologies"
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
                    "`{line}`: versions belong in the workspace's manifest"
                ));
            }
            _ => {}
        }
    }
    if !inherits_lints {
        faults.push("lacks `[lints] workspace = true`".to_owned());
    }
    for field in INHERITED.iter().filter(|field| !inherited.contains(field)) {
        faults.push(format!("lacks `{field}.workspace = true`"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[(&str, bool)]) -> Package {
        let uses = uses
            .iter()
            .map(|(name, is_dev_dependency)| Use {
                name: (*name).to_owned(),
                is_dev_dependency: *is_dev_dependency,
                is_for_testing: false,
            })
            .collect();
        Package {
            name: name.to_owned(),
            manifest: PathBuf::new(),
            uses,
        }
    }

    #[test]
    fn adapters_must_not_use_each_other() {
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
    fn no_server_has_what_is_for_tests() {
        let with = |name, is_dev_dependency| {
            let mut package = package(name, &[("chat-domain", is_dev_dependency)]);
            package.uses[0].is_for_testing = true;
            layer_faults(&package).len()
        };
        assert_eq!(with("chat-store-seaorm", false), 1);
        assert_eq!(with("chat-store-seaorm", true), 0);
        assert_eq!(with("chat-simulation", false), 0);
    }

    #[test]
    fn technologies_are_confined() {
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
    fn unknown_packages_are_reported() {
        assert_eq!(layer_faults(&package("chat-new", &[])).len(), 1);
    }

    #[test]
    fn manifests_must_inherit() {
        let good = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = \
        true\nrust-version.workspace = true\n\
                    license.workspace = true\npublish.workspace = true\n\
                    \n[dependencies]\nserde.workspace = true\n\
                    tokio = { workspace = true, features = [\"rt\"] }\n\n[lints]\nworkspace = \
                    true\n";
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
