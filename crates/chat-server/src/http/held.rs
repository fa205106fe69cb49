//! The memory that a reply holds until its client has read it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::memory::{MemoryLimit, Reservation};

/// The largest piece of a body that is given to the HTTP library at once, in bytes: the library
/// copies each piece into the connection's own buffer.
pub const PIECE: usize = 32 << 10;

/// Bodies up to this size are not counted, in bytes: no problem is ever too large to be sent.
const UNCOUNTED: u64 = 16 << 10;

/// Marks a reply whose body is shared by all connections, and costs nothing for each.
#[derive(Clone, Copy, Debug)]
pub struct Shared;

/// The memory for a reply cannot be had.
pub struct Exceeded;

/// Counts the body of a reply, unless the reply carries its own [`Reservation`] or is [`Shared`].
///
/// # Errors
/// Too much memory is held already.
pub fn count(
    response: &mut HttpResponse<BoxBody>,
    memory: &MemoryLimit,
) -> Result<Option<Reservation>, Exceeded> {
    if let Some(own) = response.extensions_mut().remove::<Reservation>() {
        return Ok(Some(own));
    }
    match response.body().size() {
        BodySize::Sized(size)
            if size > UNCOUNTED && !response.extensions().contains::<Shared>() =>
        {
            let size = usize::try_from(size).map_err(|_| Exceeded)?;
            memory.reserve(size).map(Some).ok_or(Exceeded)
        }
        _ => Ok(None),
    }
}

/// A body that is sent in pieces of at most [`PIECE`] bytes.
pub struct Held {
    body: BoxBody,
    rest: Bytes,
    _reservation: Option<Reservation>,
}

impl Held {
    /// Sends `body`, and holds its reservation until the body is dropped.
    pub fn new(body: BoxBody, reservation: Option<Reservation>) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            _reservation: reservation,
        }
    }
}

impl MessageBody for Held {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(context)) {
                Some(Ok(chunk)) => self.rest = chunk,
                end => return Poll::Ready(end),
            }
        }
        let piece = PIECE.min(self.rest.len());
        Poll::Ready(Some(Ok(self.rest.split_to(piece))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_large_body_is_sent_in_pieces_of_the_same_buffer() {
        let whole = Bytes::from(vec![7; 3 * PIECE + 1]);
        let mut body = Held::new(BoxBody::new(whole.clone()), None);
        let mut start = 0;
        for size in [PIECE, PIECE, PIECE, 1] {
            let piece = poll_fn(|context| Pin::new(&mut body).poll_next(context))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                (piece.as_ptr(), piece.len()),
                (whole[start..].as_ptr(), size)
            );
            start += size;
        }
        assert!(
            poll_fn(|context| Pin::new(&mut body).poll_next(context))
                .await
                .is_none()
        );
    }
}
