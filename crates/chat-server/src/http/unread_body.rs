//! Request bodies that are not read to their end.
//!
//! actix-http continues to read a chunked body after its reader was dropped, for as long as the
//! client sends or is silent, so that any client could occupy connections. It closes the connection
//! if the body still exists when the response has been sent, so the response keeps the body.

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

/// A chunked request body, to be kept until the response has been sent.
pub struct UnreadBody(Rc<RefCell<Payload>>);

impl UnreadBody {
    /// Shares the body of a request with its handler, if the body is chunked.
    pub fn share(request: &mut ServiceRequest) -> Option<Self> {
        request.headers().get(header::TRANSFER_ENCODING)?;
        let payload = Rc::new(RefCell::new(request.take_payload()));
        request.set_payload(Payload::Stream {
            payload: Box::pin(SharedPayload(payload.clone())),
        });
        Some(Self(payload))
    }

    /// A response body that keeps this request body.
    pub fn attach_to(self, body: BoxBody) -> BoxBody {
        BoxBody::new(BodyWithRequest {
            body,
            _request: self.0,
        })
    }
}

struct SharedPayload(Rc<RefCell<Payload>>);

impl Stream for SharedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(cx)
    }
}

struct BodyWithRequest {
    body: BoxBody,
    _request: Rc<RefCell<Payload>>,
}

impl MessageBody for BodyWithRequest {
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
