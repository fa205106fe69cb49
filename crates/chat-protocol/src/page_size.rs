//! The size limit of a page of a list.

use std::io::{self, Write};

use serde::Serialize;

/// A page ends before the entry that would make it larger than this, in bytes of JSON. A page has
/// at least one entry, whatever its size.
pub const PAGE_BYTES: usize = 192 << 10;

/// How many of these entries fit on a page: at least one.
pub(crate) fn entries_that_fit<'a, T: Serialize + 'a>(
    entries: impl Iterator<Item = &'a T>,
) -> usize {
    let mut bytes = 0;
    let sizes = entries.map(|entry| {
        bytes += size(entry);
        bytes
    });
    sizes
        .take_while(|bytes| *bytes <= PAGE_BYTES)
        .count()
        .max(1)
}

fn size(entry: &impl Serialize) -> usize {
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, entry) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX / 2,
    }
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_before_it_is_too_large_and_is_never_empty() {
        let (small, large, huge) = (
            "x".repeat(10),
            "x".repeat(PAGE_BYTES / 2 - 2),
            "x".repeat(PAGE_BYTES),
        );
        let fit = |entries: &[&String]| entries_that_fit(entries.iter());
        assert_eq!(fit(&[&large, &large, &small]), 2);
        assert_eq!(fit(&[&small, &large, &large, &small]), 2);
        assert_eq!(fit(&[&huge, &small]), 1);
        assert_eq!(fit(&[&small, &huge]), 1);
    }
}
