//! Lists the files of the built page, `ui/dist`, for the library to embed; those of `fallback` if
//! it was not built.
//!
//! Starts no program and opens no connection: `cargo xtask ui` builds the page.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(
        env::var_os("CARGO_MANIFEST_DIR")
            .ok_or_else(|| io::Error::other("cargo does not say where we are"))?,
    );
    let out = PathBuf::from(
        env::var_os("OUT_DIR")
            .ok_or_else(|| io::Error::other("cargo does not say where to write"))?,
    );
    let (dist, fallback) = (here.join("ui/dist"), here.join("fallback"));
    println!("cargo::rerun-if-changed=ui/dist");
    println!("cargo::rerun-if-changed=fallback");
    let built = dist.join("index.html").is_file();
    let root = if built { dist } else { fallback };
    let mut names = Vec::new();
    list(&root, "", &mut names)?;
    names.sort();
    let mut code = format!(
        "/// Whether the page was built.\npub const BUILT: bool = {built};\n\nstatic FILES: &[File] = &[\n"
    );
    // A copy is embedded: the page may be built again while this crate is compiled.
    let copies = out.join("page");
    for name in &names {
        let copy = copies.join(name);
        fs::create_dir_all(copy.parent().unwrap_or(&copies))?;
        fs::copy(root.join(name), copy)?;
    }
    for name in names.iter().filter(|name| !is_compressed(name)) {
        describe(&copies, name, &names, &mut code)?;
    }
    code.push_str("];\n");
    fs::write(out.join("files.rs"), code)
}

fn is_compressed(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "br" || extension == "gz")
}

/// All files below a folder, by their paths in it.
fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{prefix}{name}/"), names)?;
        } else if !name.starts_with('.') {
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

fn describe(root: &Path, name: &str, names: &[String], code: &mut String) -> io::Result<()> {
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(root.join(name))?);
    let include = |name: &str| format!("include_bytes!({:?})", root.join(name));
    let coded = |ending: &str| {
        let name = format!("{name}.{ending}");
        if names.contains(&name) {
            format!("Some({})", include(&name))
        } else {
            "None".to_owned()
        }
    };
    writeln!(
        code,
        "    File {{ path: {name:?}, media_type: {:?}, tag: \"{:016x}\", plain: {}, brotli: {}, gzip: {} }},",
        media_type(name)?,
        hasher.finish(),
        include(name),
        coded("br"),
        coded("gz"),
    )
    .map_err(io::Error::other)
}

fn media_type(name: &str) -> io::Result<&'static str> {
    Ok(match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("md" | "txt") => "text/plain; charset=utf-8",
        _ => {
            return Err(io::Error::other(format!(
                "{name}: what kind of file is this? Say it in build.rs"
            )));
        }
    })
}
