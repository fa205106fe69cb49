//! The names under which agents know servers' tools.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::hash::fnv1a;

/// The longest name that agents take, in bytes.
const LONGEST: usize = 64;

/// A tool at its server: the server's place in the settings, and the tool's own name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) server: usize,
    pub(crate) tool: String,
}

/// A server's name, and the tools that it listed last; `None` if it never listed any.
pub(crate) type Listed<'a> = (&'a str, Option<Vec<&'a str>>);

/// Which name stands for which tool. A pure function of the servers, in the order of the settings,
/// and of what they listed: the order in which they start plays no part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// The name that each tool is offered under.
    offered: BTreeMap<String, Place>,
    /// All names that stand for a tool, those that it is not offered under included.
    known: HashMap<String, Place>,
}

impl Names {
    /// Names the tools of all servers.
    ///
    /// Each tool has a long name, with its server's in front, which no other tool can have. It also
    /// has its own name if no earlier server has a tool of that name, and is offered under it;
    /// while an earlier server has not listed its tools, nobody knows, and the tool is offered
    /// under the long one. A name that begins like the long names of another server is no tool's
    /// own.
    pub(crate) fn of(servers: &[Listed<'_>]) -> Self {
        let mut names = Self::default();
        let mut all_listed = true;
        for (at, (server, tools)) in servers.iter().enumerate() {
            let others = || {
                servers
                    .iter()
                    .map(|(name, _)| *name)
                    .filter(|name| name != server)
            };
            let own = own_names(at, tools);
            let taken: HashSet<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
            for (name, place) in &own {
                let mut long = format!("{server}_{name}");
                let is_ambiguous = taken.contains(long.as_str())
                    || others().any(|other| other.len() > server.len() && begins(&long, other));
                let original = format!("{server}_{}", place.tool);
                long = if is_ambiguous {
                    with_hash(&long, &original)
                } else {
                    fit(&long, &original)
                };
                let is_free = all_listed
                    && !names.known.contains_key(name)
                    && !others().any(|other| begins(name, other));
                let offered = if is_free { name } else { &long };
                names.offered.insert(offered.clone(), place.clone());
                names.known.insert(offered.clone(), place.clone());
                names.known.insert(long, place.clone());
            }
            all_listed &= tools.is_some();
        }
        names
    }

    /// Where the tool of this name is.
    pub(crate) fn get(&self, name: &str) -> Option<&Place> {
        self.known.get(name)
    }

    /// The names that tools are offered under.
    pub(crate) fn offered(&self) -> impl Iterator<Item = (&String, &Place)> {
        self.offered.iter()
    }
}

/// Whether a name begins like the long names of a server.
fn begins(name: &str, server: &str) -> bool {
    name.strip_prefix(server)
        .is_some_and(|rest| rest.starts_with('_'))
}

/// The tools of a server under names that agents take. Whether a name is changed, and how, does not
/// depend on the order of the list.
fn own_names(server: usize, tools: &Option<Vec<&str>>) -> Vec<(String, Place)> {
    let tools = tools.as_deref().unwrap_or_default();
    let mut fitting: HashMap<String, usize> = HashMap::new();
    for tool in tools {
        *fitting.entry(fit(tool, tool)).or_default() += 1;
    }
    let named = tools.iter().map(|tool| {
        let name = fit(tool, tool);
        let is_shared = fitting.get(&name).is_some_and(|tools| *tools > 1);
        let name = if name != *tool && is_shared {
            with_hash(&name, tool)
        } else {
            name
        };
        (
            name,
            Place {
                server,
                tool: (*tool).to_owned(),
            },
        )
    });
    named.collect()
}

/// The name with `_` for each character that agents do not take. A name that is too long or not in
/// ASCII also gets a hash of `original`: what is left of it may say little.
fn fit(name: &str, original: &str) -> String {
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
    if name.is_ascii() && plain.len() <= LONGEST {
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
            name.get(..LONGEST - hash.len() - 1).unwrap_or(name)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(servers: &[(&str, Option<&[&str]>)]) -> Names {
        let servers: Vec<Listed<'_>> = servers
            .iter()
            .map(|(name, tools)| (*name, tools.map(<[&str]>::to_vec)))
            .collect();
        Names::of(&servers)
    }

    fn offered(servers: &[(&str, Option<&[&str]>)]) -> Vec<String> {
        names(servers)
            .offered()
            .map(|(name, place)| format!("{name}={}/{}", place.server, place.tool))
            .collect()
    }

    #[test]
    fn names_stay_as_they_are_when_they_can() {
        assert_eq!(
            offered(&[("a", Some(&["x", "y-1"])), ("b", Some(&["z"]))]),
            ["x=0/x", "y-1=0/y-1", "z=1/z"]
        );
    }

    #[test]
    fn of_two_tools_of_one_name_the_earlier_server_has_it() {
        let names = names(&[("a", Some(&["x"])), ("b", Some(&["x"]))]);
        let server = |name| names.get(name).map(|place| place.server);
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
    fn a_name_never_means_the_tool_of_a_later_server_because_an_earlier_one_is_late() {
        let before = names(&[("a", None), ("b", Some(&["x"]))]);
        let after = names(&[("a", Some(&["x"])), ("b", Some(&["x"]))]);
        assert_eq!(before.get("x"), None);
        assert_eq!(after.get("x").map(|place| place.server), Some(0));
        assert_eq!(
            (before.get("b_x"), before.get("b_x")),
            (
                after.get("b_x"),
                Some(&Place {
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
    fn long_names_have_one_meaning_whoever_has_listed() {
        let servers = ["a", "b", "a_b"];
        let tools: [&[&str]; 3] = [&["x", "b_x", "a_x"], &["x", "a_b_x", "b_b_x"], &["x"]];
        let mut meanings: HashMap<String, Place> = HashMap::new();
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
            for (name, place) in names.known {
                assert_eq!(
                    *meanings
                        .entry(name.clone())
                        .or_insert_with(|| place.clone()),
                    place,
                    "{name} with {servers:?}"
                );
            }
        }
        assert_eq!(
            meanings["b_x"],
            Place {
                server: 1,
                tool: "x".into()
            }
        );
    }

    #[test]
    fn names_are_made_to_fit_whatever_else_is_listed() {
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
        assert_eq!(name(4).len(), LONGEST);
    }

    #[test]
    fn names_that_fit_alike_are_told_apart_in_any_order() {
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
    fn names_that_are_cut_are_told_apart_within_the_limit() {
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
