//! The chat page: the files that `cargo xtask ui` built from `ui`, embedded in the program. A
//! program that was built without them has a page that says how to build them.

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Where it is, without a leading slash: `index.html`, `assets/index-CvJ1.js`.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub media_type: &'static str,
    /// Changes with its contents.
    pub tag: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

/// How the contents of a file are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Identity,
    /// By Brotli.
    Brotli,
    /// By gzip.
    Gzip,
}

impl File {
    /// The contents in the smallest of the codings that `accepts` takes. Who takes none gets them
    /// as they are.
    pub fn contents(&self, accepts: impl Fn(Coding) -> bool) -> (Coding, &'static [u8]) {
        let offers = [(Coding::Brotli, self.brotli), (Coding::Gzip, self.gzip)];
        let coded = offers.into_iter().find_map(|(coding, bytes)| {
            bytes
                .filter(|_| accepts(coding))
                .map(|bytes| (coding, bytes))
        });
        coded.unwrap_or((Coding::Identity, self.plain))
    }

    /// Whether it never changes: its name holds a digest of its contents.
    pub fn is_immutable(&self) -> bool {
        self.path.starts_with("assets/")
    }
}

/// The file at this path.
pub fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

/// All files.
pub fn files() -> &'static [File] {
    FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_and_all_that_it_names() {
        let page = find("index.html").unwrap();
        let (coding, bytes) = page.contents(|_| false);
        let html = std::str::from_utf8(bytes).unwrap();
        assert_eq!(
            (coding, page.media_type),
            (Coding::Identity, "text/html; charset=utf-8")
        );
        let named: Vec<_> = html
            .split('"')
            .filter_map(|text| text.strip_prefix("/page/"))
            .collect();
        assert!(!named.is_empty(), "{html}");
        for path in named {
            assert!(
                find(path).is_some(),
                "{path} is named by the page and not there"
            );
        }
        assert!(
            !html.contains("<style") && !html.contains("style=") && !html.contains("onclick"),
            "{html}"
        );
        assert!(
            !html.contains("http://") && !html.contains("https://"),
            "{html}"
        );
    }

    #[test]
    fn the_page_instead_says_how_to_build_it_and_names_what_is_there() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fallback");
        let html = std::fs::read_to_string(folder.join("index.html")).unwrap();
        let mut named = html
            .split('"')
            .filter_map(|text| text.strip_prefix("/page/"))
            .peekable();
        assert!(
            named.peek().is_some() && html.contains("cargo xtask serve"),
            "{html}"
        );
        assert!(
            named.all(|path| folder.join(path).is_file()) && folder.join("embed.js").is_file(),
            "{html}"
        );
    }

    #[test]
    fn the_smallest_coding_that_is_taken_is_given() {
        let file = File {
            path: "a.js",
            media_type: "",
            tag: "",
            plain: b"plain",
            brotli: Some(b"br"),
            gzip: Some(b"gzip"),
        };
        assert_eq!(file.contents(|_| true), (Coding::Brotli, &b"br"[..]));
        assert_eq!(
            file.contents(|coding| coding == Coding::Gzip),
            (Coding::Gzip, &b"gzip"[..])
        );
        assert_eq!(file.contents(|_| false), (Coding::Identity, &b"plain"[..]));
        assert_eq!(
            File {
                brotli: None,
                ..file
            }
            .contents(|_| true)
            .0,
            Coding::Gzip
        );
    }

    #[test]
    fn only_names_with_a_digest_are_kept_for_ever() {
        for file in files() {
            assert_eq!(
                file.is_immutable(),
                file.path.starts_with("assets/"),
                "{}",
                file.path
            );
        }
        assert!(!find("index.html").unwrap().is_immutable());
    }
}
