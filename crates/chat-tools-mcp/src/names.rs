//! What a server's tools are called here.

use std::collections::{BTreeMap, HashSet};

/// The longest name that agents take, in bytes.
const LONGEST: usize = 64;

/// A tool at its server: the server's place in the settings, and the tool's own name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) server: usize,
    pub(crate) tool: String,
}

/// Which name stands for which tool. A name keeps its meaning for as long as its tool is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(BTreeMap<String, Place>);

impl Names {
    /// Where the tool of this name is.
    pub(crate) fn get(&self, name: &str) -> Option<&Place> {
        self.0.get(name)
    }

    /// All names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Place)> {
        self.0.iter()
    }

    /// Forgets tools that are gone and names new ones. `listed` holds each server's name and what it lists.
    pub(crate) fn update<'a>(&mut self, listed: &[(&str, Vec<&'a str>)]) {
        let there: HashSet<(usize, &'a str)> =
            listed.iter().enumerate().flat_map(|(server, (_, tools))| tools.iter().map(move |tool| (server, *tool))).collect();
        self.0.retain(|_, place| there.contains(&(place.server, place.tool.as_str())));
        let mut named: HashSet<Place> = self.0.values().cloned().collect();
        for (server, (server_name, tools)) in listed.iter().enumerate() {
            for tool in tools.iter().filter(|tool| !tool.is_empty()) {
                let place = Place { server, tool: (*tool).to_owned() };
                if named.contains(&place) {
                    continue;
                }
                if let Some(name) = candidates(server_name, tool).find(|name| !self.0.contains_key(name)) {
                    if name != *tool {
                        tracing::warn!(server = *server_name, tool = *tool, name, "a tool goes by another name");
                    }
                    named.insert(place.clone());
                    self.0.insert(name, place);
                }
            }
        }
    }
}

/// The names a tool may have, the best first, without end.
fn candidates(server: &str, tool: &str) -> impl Iterator<Item = String> {
    let long = format!("{server}_{tool}");
    let numbered = {
        let long = long.clone();
        (2_u32..).map(move |number| {
            let suffix = format!("_{number}");
            fit(&long, LONGEST.saturating_sub(suffix.len())) + &suffix
        })
    };
    [fit(tool, LONGEST), fit(&long, LONGEST)].into_iter().chain(numbered)
}

fn fit(name: &str, longest: usize) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &Names) -> Vec<String> {
        names.iter().map(|(name, place)| format!("{name}={}/{}", place.server, place.tool)).collect()
    }

    #[test]
    fn names_stay_as_they_are_when_they_can() {
        let mut names = Names::default();
        names.update(&[("a", vec!["x", "y-1"]), ("b", vec!["z"])]);
        assert_eq!(shown(&names), ["x=0/x", "y-1=0/y-1", "z=1/z"]);
        assert_eq!(names.get("z"), Some(&Place { server: 1, tool: "z".into() }));
        assert_eq!(names.get("b_z"), None);
    }

    #[test]
    fn the_later_of_two_gets_its_servers_name() {
        let mut names = Names::default();
        names.update(&[("a", vec!["x", "b_x"]), ("b", vec!["x"])]);
        assert_eq!(shown(&names), ["b_x=0/b_x", "b_x_2=1/x", "x=0/x"]);
    }

    #[test]
    fn names_are_made_to_fit() {
        let mut names = Names::default();
        let long = "l".repeat(70);
        names.update(&[("a", vec!["files/read.all", "é", "", &long])]);
        assert_eq!(shown(&names), ["_=0/é".into(), "files_read_all=0/files/read.all".into(), format!("{}=0/{long}", "l".repeat(64))]);
    }

    #[test]
    fn what_is_cut_to_the_same_name_is_numbered_within_the_limit() {
        let mut names = Names::default();
        let tools: Vec<String> = (0..4).map(|n| format!("{}{n}", "l".repeat(64))).collect();
        names.update(&[("a", tools.iter().map(String::as_str).collect())]);
        assert_eq!(names.iter().count(), 4);
        assert!(names.iter().all(|(name, _)| name.len() == 64));
    }

    #[test]
    fn a_name_keeps_its_meaning_when_an_earlier_server_arrives_late() {
        let mut names = Names::default();
        names.update(&[("a", vec![]), ("b", vec!["x"])]);
        names.update(&[("a", vec!["x"]), ("b", vec!["x"])]);
        assert_eq!(shown(&names), ["a_x=0/x", "x=1/x"]);
        names.update(&[("a", vec!["x"]), ("b", vec![])]);
        assert_eq!(shown(&names), ["a_x=0/x"]);
    }
}
