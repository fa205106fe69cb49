//! Names of tools as agents know them.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::hash::fnv1a;

/// Longest name that agents accept, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A tool at its server: the server's index in the settings and the server's name of the tool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ToolLocation {
    pub(crate) server: usize,
    pub(crate) tool: String,
}

/// A server's name and the tools that it listed last. `None` if it never listed any.
pub(crate) type ListedTools<'a> = (&'a str, Option<Vec<&'a str>>);

/// Maps names to tools. The mapping depends only on the order of the servers in the settings and on
/// their lists, not on the order in which they start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolNames {
    /// The name that each tool is offered under.
    offered: BTreeMap<String, ToolLocation>,
    /// All names of tools, including those that are not offered.
    known: HashMap<String, ToolLocation>,
}

impl ToolNames {
    /// Assigns names to the tools of all servers.
    ///
    /// Each tool has a unique long name with its server's name as a prefix. It is offered under its
    /// own name if no earlier server has a tool of that name. While an earlier server has not
    /// listed its tools, that is unknown, and the tool is offered under its long name. A name with
    /// the prefix of another server is never a tool's own name.
    pub(crate) fn new(servers: &[ListedTools<'_>]) -> Self {
        let mut names = Self::default();
        let mut all_listed = true;
        for (at, (server, tools)) in servers.iter().enumerate() {
            let others = || {
                servers
                    .iter()
                    .map(|(name, _)| *name)
                    .filter(|name| name != server)
            };
            let own = sanitized_names(at, tools);
            let taken: HashSet<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
            for (name, location) in &own {
                let mut long = format!("{server}_{name}");
                let is_ambiguous = taken.contains(long.as_str())
                    || others()
                        .any(|other| other.len() > server.len() && has_server_prefix(&long, other));
                let original = format!("{server}_{}", location.tool);
                long = if is_ambiguous {
                    with_hash(&long, &original)
                } else {
                    sanitize(&long, &original)
                };
                let is_free = all_listed
                    && !names.known.contains_key(name)
                    && !others().any(|other| has_server_prefix(name, other));
                let offered = if is_free { name } else { &long };
                names.offered.insert(offered.clone(), location.clone());
                names.known.insert(offered.clone(), location.clone());
                names.known.insert(long, location.clone());
            }
            all_listed &= tools.is_some();
        }
        names
    }

    /// Returns the location of the tool with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&ToolLocation> {
        self.known.get(name)
    }

    /// Returns the names that tools are offered under.
    pub(crate) fn offered(&self) -> impl Iterator<Item = (&String, &ToolLocation)> {
        self.offered.iter()
    }
}

/// Whether a name starts with a server's prefix.
fn has_server_prefix(name: &str, server: &str) -> bool {
    name.strip_prefix(server)
        .is_some_and(|rest| rest.starts_with('_'))
}

/// Returns the tools of a server under names that agents accept. The names do not depend on the
/// order of the list.
fn sanitized_names(server: usize, tools: &Option<Vec<&str>>) -> Vec<(String, ToolLocation)> {
    let tools = tools.as_deref().unwrap_or_default();
    let mut fitting: HashMap<String, usize> = HashMap::new();
    for tool in tools {
        *fitting.entry(sanitize(tool, tool)).or_default() += 1;
    }
    let named = tools.iter().map(|tool| {
        let name = sanitize(tool, tool);
        let is_ambiguous = fitting.get(&name).is_some_and(|tools| *tools > 1);
        let name = if name != *tool && is_ambiguous {
            with_hash(&name, tool)
        } else {
            name
        };
        (
            name,
            ToolLocation {
                server,
                tool: (*tool).to_owned(),
            },
        )
    });
    named.collect()
}

/// Replaces each character that agents do not accept by `_`. A name that is too long or not in
/// ASCII also gets a hash of `original`, because the rest of it may not be meaningful.
fn sanitize(name: &str, original: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    if name.is_ascii() && plain.len() <= MAX_NAME_BYTES {
        plain
    } else {
        with_hash(&plain, original)
    }
}

fn with_hash(name: &str, original: &str) -> String {
    let hash = format!("{:08x}", fnv1a(original.as_bytes()) & 0xffff_ffff);
    match name.trim_matches('_') {
        "" => format!("tool_{hash}"),
        name => format!(
            "{}_{hash}",
            name.get(..MAX_NAME_BYTES - hash.len() - 1).unwrap_or(name)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(servers: &[(&str, Option<&[&str]>)]) -> ToolNames {
        let servers: Vec<ListedTools<'_>> = servers
            .iter()
            .map(|(name, tools)| (*name, tools.map(<[&str]>::to_vec)))
            .collect();
        ToolNames::new(&servers)
    }

    fn offered(servers: &[(&str, Option<&[&str]>)]) -> Vec<String> {
        names(servers)
            .offered()
            .map(|(name, location)| format!("{name}={}/{}", location.server, location.tool))
            .collect()
    }

    #[test]
    fn valid_names_are_unchanged() {
        assert_eq!(
            offered(&[("a", Some(&["x", "y-1"])), ("b", Some(&["z"]))]),
            ["x=0/x", "y-1=0/y-1", "z=1/z"]
        );
    }

    #[test]
    fn a_duplicate_name_belongs_to_the_earlier_server() {
        let names = names(&[("a", Some(&["x"])), ("b", Some(&["x"]))]);
        let server = |name| names.get(name).map(|location| location.server);
        assert_eq!(
            (server("x"), server("a_x"), server("b_x"), server("c_x")),
            (Some(0), Some(0), Some(1), None)
        );
        assert_eq!(
            offered(&[("a", Some(&["x"])), ("b", Some(&["x"]))]),
            ["b_x=1/x", "x=0/x"]
        );
    }

    #[test]
    fn a_name_does_not_depend_on_the_order_of_starts() {
        let before = names(&[("a", None), ("b", Some(&["x"]))]);
        let after = names(&[("a", Some(&["x"])), ("b", Some(&["x"]))]);
        assert_eq!(before.get("x"), None);
        assert_eq!(after.get("x").map(|location| location.server), Some(0));
        assert_eq!(
            (before.get("b_x"), before.get("b_x")),
            (
                after.get("b_x"),
                Some(&ToolLocation {
                    server: 1,
                    tool: "x".into()
                })
            )
        );
        assert_eq!(offered(&[("a", None), ("b", Some(&["x"]))]), ["b_x=1/x"]);
        assert_eq!(offered(&[("a", Some(&[])), ("b", Some(&["x"]))]), ["x=1/x"]);
        assert_eq!(offered(&[("a", Some(&["x"])), ("b", None)]), ["x=0/x"]);
    }

    #[test]
    fn long_names_do_not_depend_on_the_listed_servers() {
        let servers = ["a", "b", "a_b"];
        let tools: [&[&str]; 3] = [&["x", "b_x", "a_x"], &["x", "a_b_x", "b_b_x"], &["x"]];
        let mut meanings: HashMap<String, ToolLocation> = HashMap::new();
        for listed in 0..8_usize {
            let servers: Vec<(&str, Option<&[&str]>)> = (0..3)
                .map(|at| (servers[at], (listed >> at & 1 == 1).then_some(tools[at])))
                .collect();
            let names = names(&servers);
            assert_eq!(
                names.offered().count(),
                servers
                    .iter()
                    .flat_map(|(_, tools)| tools.unwrap_or_default())
                    .count()
            );
            for (name, location) in names.known {
                assert_eq!(
                    *meanings
                        .entry(name.clone())
                        .or_insert_with(|| location.clone()),
                    location,
                    "{name} with {servers:?}"
                );
            }
        }
        assert_eq!(
            meanings["b_x"],
            ToolLocation {
                server: 1,
                tool: "x".into()
            }
        );
    }

    #[test]
    fn names_are_sanitized_independently_of_other_tools() {
        let long = "l".repeat(70);
        let tools = ["files/read.all", "été", "天気", "été!", &long];
        let alone: Vec<String> = tools
            .iter()
            .flat_map(|tool| offered(&[("a", Some(&[tool]))]))
            .collect();
        let reversed: Vec<&str> = tools.iter().rev().copied().collect();
        for order in [tools.to_vec(), reversed] {
            let together = offered(&[("a", Some(&order))]);
            assert!(
                alone.iter().all(|name| together.contains(name)) && together.len() == tools.len(),
                "{alone:?} {together:?}"
            );
        }
        let name = |at: usize| alone[at].split('=').next().unwrap();
        assert_eq!(name(0), "files_read_all");
        assert!(
            name(1).starts_with("t_") && name(1).len() == 10 && name(2).starts_with("tool_"),
            "{alone:?}"
        );
        assert_eq!(name(4).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn equal_sanitized_names_are_distinguished_in_any_order() {
        let one = offered(&[("a", Some(&["f.x", "f/x", "g.x", "g_x"]))]);
        let other = offered(&[("a", Some(&["g_x", "g.x", "f/x", "f.x"]))]);
        assert_eq!((one.len(), &one), (4, &other));
        assert!(
            one.contains(&"g_x=0/g_x".to_owned())
                && !one.iter().any(|name| name.starts_with("f_x=")),
            "{one:?}"
        );
    }

    #[test]
    fn truncated_names_are_distinguished_within_the_limit() {
        let tools: Vec<String> = (0..4).map(|n| format!("{}{n}", "l".repeat(64))).collect();
        let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
        let names = names(&[("a", None), ("b", Some(&tools))]);
        assert_eq!(names.offered().count(), 4);
        assert!(
            names
                .offered()
                .all(|(name, _)| name.len() == 64 && name.starts_with("b_l"))
        );
    }
}
