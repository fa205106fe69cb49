//! Bodies that are not read to their end.
//!
//! actix-http continues to read a chunked body after its reader was dropped, for as long as the
//! client keeps sending or keeps silent, so that any client could hold connections. A body that is
//! still there when the answer has been sent makes it close the connection, and that is what is
//! done here.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::header;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// A chunked body, kept until the answer has been sent.
pub struct Kept(Rc<RefCell<Payload>>);

/// Keeps the request's body, if it is chunked; handlers read it as before.
pub fn keep(request: &mut ServiceRequest) -> Option<Kept> {
    request.headers().get(header::TRANSFER_ENCODING)?;
    let payload = Rc::new(RefCell::new(request.take_payload()));
    request.set_payload(Payload::Stream {
        payload: Box::pin(Reader(payload.clone())),
    });
    Some(Kept(payload))
}

impl Kept {
    /// The answer's body, which from now on keeps the request's.
    pub fn with(self, body: BoxBody) -> BoxBody {
        BoxBody::new(Answer {
            body,
            _request: self.0,
        })
    }
}

struct Reader(Rc<RefCell<Payload>>);

impl Stream for Reader {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(cx)
    }
}

struct Answer {
    body: BoxBody,
    _request: Rc<RefCell<Payload>>,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
