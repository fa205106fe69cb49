//! The memory that a response body holds until its client has read it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::memory::{MemoryLimit, Reservation};

/// The largest chunk of a body that is given to the HTTP library at once, in bytes: the library
/// copies each chunk into the connection's own buffer.
pub const CHUNK_BYTES: usize = 32 << 10;

/// Bodies up to this size need no reservation, in bytes, so that a problem can always be sent.
const FREE_BYTES: u64 = 16 << 10;

/// Marks a response whose body is shared by all connections and needs no reservation.
#[derive(Clone, Copy, Debug)]
pub struct SharedBody;

/// The memory limit does not allow the response.
pub struct MemoryExceeded;

/// Reserves memory for the body of a response, unless the response carries its own [`Reservation`]
/// or is a [`SharedBody`].
///
/// # Errors
/// The limit would be exceeded.
pub fn reserve(
    response: &mut HttpResponse<BoxBody>,
    memory: &MemoryLimit,
) -> Result<Option<Reservation>, MemoryExceeded> {
    if let Some(own) = response.extensions_mut().remove::<Reservation>() {
        return Ok(Some(own));
    }
    match response.body().size() {
        BodySize::Sized(size)
            if size > FREE_BYTES && !response.extensions().contains::<SharedBody>() =>
        {
            let size = usize::try_from(size).map_err(|_| MemoryExceeded)?;
            memory.reserve(size).map(Some).ok_or(MemoryExceeded)
        }
        _ => Ok(None),
    }
}

/// A body that is sent in chunks of at most [`CHUNK_BYTES`] bytes, with the memory reserved for it.
pub struct ReservedBody {
    body: BoxBody,
    rest: Bytes,
    _reservation: Option<Reservation>,
}

impl ReservedBody {
    /// Sends `body`, and holds its reservation until the body is dropped.
    pub fn new(body: BoxBody, reservation: Option<Reservation>) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            _reservation: reservation,
        }
    }
}

impl MessageBody for ReservedBody {
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
        let size = CHUNK_BYTES.min(self.rest.len());
        Poll::Ready(Some(Ok(self.rest.split_to(size))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_large_body_is_sent_in_chunks_of_the_same_buffer() {
        let whole = Bytes::from(vec![7; 3 * CHUNK_BYTES + 1]);
        let mut body = ReservedBody::new(BoxBody::new(whole.clone()), None);
        let mut start = 0;
        for size in [CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES, 1] {
            let chunk = poll_fn(|context| Pin::new(&mut body).poll_next(context))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                (chunk.as_ptr(), chunk.len()),
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
