//! Cycles of imports between the files of a crate.
//!
//! A file imports another one if its code, tests left out, names an item that the other file
//! defines. A re-export is followed to the file that defines the item, so a module that only
//! declares and re-exports its children imports nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::{fs, io};

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::Visit;
use syn::{Attribute, ItemMod, ItemUse, Macro, UseTree, Visibility};

/// A path of modules from the crate's root, and the name of an item.
type Names = Vec<String>;

/// The cycles between the files below a package's `src`, each as a sentence.
///
/// # Errors
/// A file cannot be read or parsed.
pub fn faults(src: &Path) -> io::Result<Vec<String>> {
    let mut files = BTreeMap::new();
    let has_library = src.join("lib.rs").exists();
    collect(src, &mut Vec::new(), has_library, &mut files)?;
    Ok(cycles(&imports(&files)))
}

/// The references of one file, by the module that the file is.
#[derive(Default)]
struct FileReferences {
    /// The file's module, and inside of an inline module that one.
    module: Names,
    /// The root that `crate` means in the file.
    root: Names,
    /// Paths as the code writes them, with the module they are written in.
    paths: BTreeSet<(Names, Names)>,
    /// Imported names and modules declared here, in the module they are visible in, and the
    /// absolute paths behind them.
    in_scope: BTreeMap<(Names, String), Names>,
    /// Re-exported names, and the absolute paths behind them.
    exports: BTreeMap<String, Names>,
}

fn collect(
    folder: &Path,
    module: &mut Names,
    has_library: bool,
    files: &mut BTreeMap<Names, FileReferences>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        // A program next to a library is a crate of its own.
        let is_program = (module.is_empty() && has_library && stem == "main") || *module == ["bin"];
        let is_root = !is_program && matches!(&*stem, "lib" | "main" | "mod");
        let depth = module.len();
        if !is_root || path.is_dir() {
            module.push(stem.into_owned());
        }
        if path.is_dir() {
            collect(&path, module, has_library, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let root = if is_program {
                module.clone()
            } else {
                Names::new()
            };
            files.insert(module.clone(), references(module, root, &text)?);
        }
        module.truncate(depth);
    }
    Ok(())
}

fn references(module: &Names, root: Names, text: &str) -> io::Result<FileReferences> {
    let file = syn::parse_file(text).map_err(io::Error::other)?;
    let mut references = FileReferences {
        module: module.clone(),
        root,
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
    /// The absolute path of names that are written in `module`; `None` if they belong to another
    /// crate, or are neither imported nor declared there.
    fn absolute(&self, module: &Names, names: &[String]) -> Option<Names> {
        let (first, mut rest) = names.split_first()?;
        let mut base = match first.as_str() {
            "crate" => self.root.clone(),
            "self" => module.clone(),
            "super" => {
                let mut base = module.clone();
                base.pop();
                while let Some((_, behind)) =
                    rest.split_first().filter(|(name, _)| *name == "super")
                {
                    base.pop();
                    rest = behind;
                }
                base
            }
            name => self
                .in_scope
                .get(&(module.clone(), name.to_owned()))?
                .clone(),
        };
        base.extend(rest.iter().cloned());
        Some(base)
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
            names.push(name);
        }
        let Some(last) = names.last().cloned() else {
            return;
        };
        // A path without a first keyword names a module declared here, or another crate.
        let is_relative = !matches!(
            names.first().map(String::as_str),
            Some("crate" | "self" | "super")
        );
        let path = if is_relative {
            Some(self.module.iter().chain(&names).cloned().collect())
        } else {
            self.absolute(&self.module, &names)
        };
        let Some(path) = path else { return };
        let name = alias.unwrap_or(last);
        if is_export {
            self.exports.insert(name.clone(), path.clone());
        } else {
            let mut written = vec!["crate".to_owned()];
            written.extend(path.iter().skip(self.root.len()).cloned());
            self.paths.insert((self.module.clone(), written));
        }
        self.in_scope.insert((self.module.clone(), name), path);
    }

    /// Adds the paths among a macro's arguments: every `a::b` is taken for one.
    fn add_tokens(&mut self, mut cursor: Cursor<'_>) {
        while !cursor.eof() {
            if let Some((inside, _, _, behind)) = cursor.any_group() {
                self.add_tokens(inside);
                cursor = behind;
                continue;
            }
            let mut names = Names::new();
            while let Some((name, behind)) = cursor.ident() {
                names.push(name.to_string());
                cursor = behind;
                let Some(behind) = behind_colon(cursor).and_then(behind_colon) else {
                    break;
                };
                cursor = behind;
            }
            if names.is_empty() {
                let Some((_, behind)) = cursor.token_tree() else {
                    return;
                };
                cursor = behind;
            } else if names.len() > 1 {
                self.paths.insert((self.module.clone(), names));
            }
        }
    }
}

fn behind_colon(cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let (punctuation, behind) = cursor.punct()?;
    (punctuation.as_char() == ':').then_some(behind)
}

impl<'ast> Visit<'ast> for FileReferences {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        let name = item.ident.to_string();
        let mut path = self.module.clone();
        path.push(name.clone());
        self.in_scope
            .insert((self.module.clone(), name.clone()), path);
        if item.content.is_some() {
            self.module.push(name);
            syn::visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        self.add_use(&item.tree, &mut Vec::new(), is_export);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.len() > 1 {
            self.paths.insert((self.module.clone(), names));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, node: &'ast Macro) {
        self.add_tokens(TokenBuffer::new2(node.tokens.clone()).begin());
        syn::visit::visit_macro(self, node);
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
        let named = file
            .paths
            .iter()
            .filter_map(|(module, path)| file.absolute(module, path))
            // A module is imported for what is in it: the paths through it say what that is.
            .filter(|path| !files.contains_key(path));
        let targets = named.filter_map(|path| definition(files, &path).cloned());
        let others = targets
            .filter(|target| target != module)
            .map(|target| name(&target));
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
            let root = if module == ["main"] {
                module.clone()
            } else {
                Names::new()
            };
            let references = references(&module, root, text).unwrap();
            (module, references)
        });
        cycles(&imports(&files.collect()))
    }

    #[test]
    fn a_cycle_is_named_by_its_files() {
        let found = cycles_of(&[
            ("", "mod a; mod b; mod c; pub use a::A;"),
            ("a", "use crate::b::B; pub struct A;"),
            ("b", "use crate::c; pub struct B; fn g() { c::f() }"),
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

    #[test]
    fn a_path_through_a_module_in_scope_counts() {
        let child = ("child", "use super::Parent; pub fn f(_: Parent) {}");
        for parent in [
            "mod child; pub struct Parent; fn g() { child::f(Parent) }",
            "mod child; use crate::child as c; pub struct Parent; fn g() { c::f(Parent) }",
            "mod child; pub struct Parent; fn g() { assert!(child::f(Parent)) }",
            "mod child; pub struct Parent; fn g() { vec![(1, child::f(Parent))]; }",
        ] {
            assert_eq!(
                cycles_of(&[("", parent), child]),
                ["these files import each other: child → lib → child"],
                "{parent}"
            );
        }
    }

    #[test]
    fn super_in_an_inline_module_is_its_file() {
        let parent = "mod child; pub use child::A; mod inline { use super::B; } struct B;";
        assert_eq!(
            cycles_of(&[("", parent), ("child", "pub struct A;")]),
            [""; 0]
        );
        let grandparent = "mod inline { fn f() { super::super::b::g() } } pub fn h() {}";
        assert_eq!(
            cycles_of(&[
                ("", "mod a; mod b;"),
                ("a", grandparent),
                ("b", "use crate::a; pub fn g() { a::h() }")
            ]),
            ["these files import each other: a → b → a"]
        );
    }

    #[test]
    fn a_program_next_to_a_library_is_another_crate() {
        let found = cycles_of(&[
            ("", "mod a; pub fn run() { a::f() }"),
            ("main", "fn main() { crate::helper() } fn helper() {}"),
            ("a", "pub fn f() {}"),
        ]);
        assert_eq!(found, [""; 0]);
    }
}
