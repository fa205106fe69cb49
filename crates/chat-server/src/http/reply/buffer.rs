//! The part of a page's text that is in memory.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::response_body::CHUNK_BYTES;

/// The largest text that is kept while the client does not read, in bytes.
pub const MAX_BUFFER: usize = 128 << 10;

/// A part of a page's text. Offsets are in bytes from the start of the page.
pub struct Buffer {
    start: usize,
    bytes: Vec<u8>,
    /// The permit to keep a large text as a whole.
    permit: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    /// Keeps the text of a page from `offset` on: as a whole if it is small, or if there is a
    /// permit to keep a large one.
    pub fn new(
        text: String,
        offset: usize,
        permit: impl FnOnce() -> Option<OwnedSemaphorePermit>,
    ) -> Self {
        let is_large = text.len() > MAX_BUFFER;
        let mut buffer = Self {
            start: 0,
            bytes: text.into_bytes(),
            permit: None,
        };
        if is_large {
            buffer.permit = permit();
            if buffer.permit.is_none() {
                buffer.shrink(offset);
            }
        }
        buffer
    }

    /// Drops all but [`MAX_BUFFER`] bytes from `offset` on, and the permit.
    pub fn shrink(&mut self, offset: usize) {
        if self.bytes.len() > MAX_BUFFER {
            let rest = self.bytes.get(offset - self.start..).unwrap_or_default();
            self.bytes = rest.get(..MAX_BUFFER).unwrap_or(rest).to_vec();
            self.start = offset;
        }
        self.permit = None;
    }

    /// Whether nothing from `offset` on is in memory.
    pub fn is_behind(&self, offset: usize) -> bool {
        offset >= self.start + self.bytes.len()
    }

    /// A copy of the next chunk, so that the chunk does not keep the whole text in memory.
    pub fn chunk(&self, offset: usize) -> Option<Bytes> {
        let rest = self.bytes.get(offset - self.start..)?;
        let chunk = rest.get(..CHUNK_BYTES).unwrap_or(rest);
        (!chunk.is_empty()).then(|| Bytes::copy_from_slice(chunk))
    }
}
