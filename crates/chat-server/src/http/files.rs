//! Files that are the same for everyone: sent from one buffer, in the coding that the client
//! accepts.

use actix_web::http::header::{
    self, AcceptEncoding, ContentEncoding, Encoding, EntityTag, Header, IfNoneMatch,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use crate::http::held::Shared;

/// The contents of a file in one coding.
pub struct Coded {
    /// The coding.
    pub encoding: ContentEncoding,
    /// The contents; clones share them.
    pub bytes: Bytes,
}

/// A file, and how it may be kept.
pub struct Served<'a> {
    /// Its media type.
    pub media_type: &'a str,
    /// Names its contents, however they are coded.
    pub tag: String,
    /// The value of `Cache-Control`.
    pub kept: &'static str,
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

/// The answer with a file, or that the client has it already.
pub fn answer(request: &HttpRequest, file: Served<'_>, contents: Coded) -> HttpResponse {
    let tag = EntityTag::new_weak(file.tag);
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header(header::ETag(tag))
        .insert_header((header::CACHE_CONTROL, file.kept))
        .insert_header((header::VARY, "accept-encoding"));
    if known {
        return response.finish();
    }
    response.insert_header(contents.encoding);
    let mut response = response.content_type(file.media_type).body(contents.bytes);
    response.extensions_mut().insert(Shared);
    response
}
