//! Cycles of imports between the files of a crate.
//!
//! A file imports another one if its code, tests left out, names an item that the other file
//! defines. A re-export is followed to the file that defines the item, so a module that only
//! declares and re-exports its children imports nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::{fs, io};

use syn::visit::Visit;
use syn::{Attribute, ItemMod, ItemUse, UseTree, Visibility};

/// A path of modules from the crate's root, and the name of an item.
type Names = Vec<String>;

/// The cycles between the files below a crate's `src`, each as a sentence.
///
/// # Errors
/// A file cannot be read or parsed.
pub fn faults(src: &Path) -> io::Result<Vec<String>> {
    let mut files = BTreeMap::new();
    collect(src, &mut Vec::new(), &mut files)?;
    Ok(cycles(&imports(&files)))
}

/// The references of one file, by the module that the file is.
#[derive(Default)]
struct FileReferences {
    module: Names,
    /// Absolute paths that the code names.
    paths: BTreeSet<Names>,
    /// Re-exported names, and the absolute paths behind them.
    exports: BTreeMap<String, Names>,
}

fn collect(
    folder: &Path,
    module: &mut Names,
    files: &mut BTreeMap<Names, FileReferences>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_root = matches!(&*stem, "lib" | "main" | "mod");
        let depth = module.len();
        if !is_root || path.is_dir() {
            module.push(stem.into_owned());
        }
        if path.is_dir() {
            collect(&path, module, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            files.insert(module.clone(), references(module, &text)?);
        }
        module.truncate(depth);
    }
    Ok(())
}

fn references(module: &Names, text: &str) -> io::Result<FileReferences> {
    let file = syn::parse_file(text).map_err(io::Error::other)?;
    let mut references = FileReferences {
        module: module.clone(),
        ..FileReferences::default()
    };
    references.visit_file(&file);
    Ok(references)
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_cfg_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|name| name == "test")
    };
    attributes.iter().any(is_cfg_test)
}

impl FileReferences {
    /// The absolute path of names as the file writes them; `None` if they belong to another crate.
    fn absolute(&self, names: &[String]) -> Option<Names> {
        let (first, rest) = names.split_first()?;
        let base: &[String] = match first.as_str() {
            "crate" => &[],
            "self" => &self.module,
            "super" => {
                let parent = self
                    .module
                    .split_last()
                    .map_or(&[][..], |(_, parent)| parent);
                let mut path = parent.to_vec();
                let mut rest = rest;
                while let Some((first, behind)) =
                    rest.split_first().filter(|(name, _)| *name == "super")
                {
                    debug_assert_eq!(first, "super");
                    path.pop();
                    rest = behind;
                }
                path.extend(rest.iter().cloned());
                return Some(path);
            }
            _ => return None,
        };
        Some(base.iter().chain(rest).cloned().collect())
    }

    fn add_use(&mut self, tree: &UseTree, prefix: &mut Names, is_export: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.add_use(&path.tree, prefix, is_export);
                prefix.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, prefix, is_export);
                }
            }
            UseTree::Name(name) => self.add_name(name.ident.to_string(), None, prefix, is_export),
            UseTree::Rename(rename) => {
                let alias = Some(rename.rename.to_string());
                self.add_name(rename.ident.to_string(), alias, prefix, is_export);
            }
            UseTree::Glob(_) => self.add_name("*".to_owned(), None, prefix, is_export),
        }
    }

    fn add_name(&mut self, name: String, alias: Option<String>, prefix: &Names, is_export: bool) {
        let mut names = prefix.clone();
        if name != "self" {
            names.push(name.clone());
        }
        // A path without a first keyword names a child module, or another crate.
        let path = self.absolute(&names).or_else(|| {
            let mut path = self.module.clone();
            path.extend(names);
            Some(path)
        });
        let Some(path) = path else { return };
        if is_export {
            self.exports.insert(alias.unwrap_or(name), path);
        } else {
            self.paths.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for FileReferences {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        self.add_use(&item.tree, &mut Vec::new(), is_export);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.len() > 1 {
            self.paths.extend(self.absolute(&names));
        }
        syn::visit::visit_path(self, path);
    }
}

/// The file that defines what a path names; `None` if that is no file of the crate.
fn definition<'f>(files: &'f BTreeMap<Names, FileReferences>, path: &Names) -> Option<&'f Names> {
    let mut path = path.clone();
    // Re-exports of re-exports end after a few.
    for _ in 0..8 {
        let depth = (0..=path.len()).rev().find(|depth| {
            let module = path.get(..*depth).unwrap_or_default();
            files.contains_key(module)
        })?;
        let module = path.get(..depth).unwrap_or_default();
        let (module, file) = files.get_key_value(module)?;
        let Some(behind) = path.get(depth).and_then(|name| file.exports.get(name)) else {
            return Some(module);
        };
        path = behind
            .iter()
            .chain(path.iter().skip(depth + 1))
            .cloned()
            .collect();
    }
    None
}

fn imports(files: &BTreeMap<Names, FileReferences>) -> BTreeMap<String, BTreeSet<String>> {
    let name = |module: &Names| match module.join("/") {
        root if root.is_empty() => "lib".to_owned(),
        name => name,
    };
    let mut imports = BTreeMap::new();
    for (module, file) in files {
        let targets = file.paths.iter().filter_map(|path| definition(files, path));
        let others = targets.filter(|target| *target != module).map(name);
        imports.insert(name(module), others.collect());
    }
    imports
}

/// The shortest cycle through each file that is on one, each cycle once.
fn cycles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found: BTreeMap<BTreeSet<String>, String> = BTreeMap::new();
    for start in imports.keys() {
        let mut queue = VecDeque::from([vec![start.clone()]]);
        let mut seen = BTreeSet::new();
        while let Some(path) = queue.pop_front() {
            let targets = path.last().and_then(|last| imports.get(last));
            for target in targets.into_iter().flatten() {
                if target == start {
                    let files: BTreeSet<String> = path.iter().cloned().collect();
                    let cycle = format!("{} → {start}", path.join(" → "));
                    found.entry(files).or_insert(cycle);
                    queue.clear();
                    break;
                }
                if seen.insert(target) {
                    let mut longer = path.clone();
                    longer.push(target.clone());
                    queue.push_back(longer);
                }
            }
        }
    }
    let sentence = |cycle| format!("these files import each other: {cycle}");
    found.into_values().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(module, text)| {
            let module: Names = module
                .split('/')
                .filter(|m| !m.is_empty())
                .map(str::to_owned)
                .collect();
            let references = references(&module, text).unwrap();
            (module, references)
        });
        cycles(&imports(&files.collect()))
    }

    #[test]
    fn a_cycle_is_named_by_its_files() {
        let found = cycles_of(&[
            ("", "mod a; mod b; mod c; pub use a::A;"),
            ("a", "use crate::b::B; pub struct A;"),
            ("b", "use crate::c; pub struct B;"),
            ("c", "fn f(a: &super::a::A) {}"),
        ]);
        assert_eq!(found, ["these files import each other: a → b → c → a"]);
    }

    #[test]
    fn re_exports_are_followed() {
        let found = cycles_of(&[
            ("", "mod a; mod b;"),
            ("a", "mod x; pub use x::X; mod y;"),
            ("a/x", "pub struct X;"),
            ("a/y", "use super::X;"),
            ("b", "use crate::a::X;"),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_child_that_uses_what_its_parent_defines_is_in_a_cycle() {
        let parent = "mod child; use child::Child; pub struct Parent;";
        let found = cycles_of(&[
            ("", parent),
            ("child", "use super::Parent; pub struct Child;"),
        ]);
        assert_eq!(
            found,
            ["these files import each other: child → lib → child"]
        );
    }

    #[test]
    fn tests_do_not_count() {
        let a = "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }";
        let found = cycles_of(&[("", "mod a; mod b;"), ("a", a), ("b", "use crate::a::A;")]);
        assert_eq!(found, [""; 0]);
    }
}
