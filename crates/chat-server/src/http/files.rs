//! Files that are the same for all clients, sent from one buffer in a coding that the client
//! accepts.

use actix_web::http::header::{
    self, AcceptEncoding, ContentEncoding, Encoding, EntityTag, Header, IfNoneMatch,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use crate::http::response_body::SharedBody;

/// The contents of a file in one coding.
pub struct EncodedContents {
    /// The coding.
    pub encoding: ContentEncoding,
    /// The contents; clones share them.
    pub bytes: Bytes,
}

/// A file, and how it may be cached.
pub struct ServedFile<'a> {
    /// Its media type.
    pub media_type: &'a str,
    /// The entity tag of its contents, the same in every coding.
    pub tag: String,
    /// The value of `Cache-Control`.
    pub cache_control: &'static str,
}

/// Whether the client accepts a coding.
pub fn accepts(request: &HttpRequest, encoding: ContentEncoding) -> bool {
    let encoding = match encoding {
        ContentEncoding::Brotli => Encoding::brotli(),
        ContentEncoding::Gzip => Encoding::gzip(),
        _ => Encoding::identity(),
    };
    let accepted = AcceptEncoding::parse(request).ok();
    accepted.is_some_and(|accepted| accepted.negotiate([encoding.clone()].iter()) == Some(encoding))
}

/// The response with a file, or 304 if the client has it already.
pub fn answer(
    request: &HttpRequest,
    file: ServedFile<'_>,
    contents: EncodedContents,
) -> HttpResponse {
    let tag = EntityTag::new_weak(file.tag);
    let is_known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|given| given.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header(header::ETag(tag))
        .insert_header((header::CACHE_CONTROL, file.cache_control))
        .insert_header((header::VARY, "accept-encoding"));
    if is_known {
        return response.finish();
    }
    response.insert_header(contents.encoding);
    let mut response = response.content_type(file.media_type).body(contents.bytes);
    response.extensions_mut().insert(SharedBody);
    response
}
