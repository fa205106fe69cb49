//! The OpenAPI document, and pages that show it without a network.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use actix_web::http::header::{self, ContentEncoding, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chat_protocol::Code;
use chat_protocol::explanation;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use utoipa_swagger_ui::Config;

use crate::http::files::{self, EncodedContents, ServedFile};
use crate::problem::ApiError;

/// The content security policy of the pages: their own scripts, styles and requests. Swagger UI
/// sets styles from its scripts and draws with `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Makes the OpenAPI document. A function, because the document names the routes and so these
/// handlers.
pub struct ApiDescription(pub fn() -> utoipa::openapi::OpenApi);

static DOCUMENT: OnceLock<PageFile> = OnceLock::new();

fn document_file(description: &ApiDescription) -> PageFile {
    let text = Bytes::from((description.0)().to_json().unwrap_or_default());
    let (media_type, tag) = ("application/json".to_owned(), String::new());
    PageFile::new(media_type.clone(), text.clone()).unwrap_or(PageFile {
        media_type,
        tag,
        identity: text,
        gzip: None,
    })
}

static PAGES: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json").validator_url("none")));

/// Get the API's description
#[utoipa::path(
    get,
    operation_id = "getDescription",
    path = "/openapi.json",
    tag = "server",
    security(()),
    responses((
        status = 200,
        description = "This document: OpenAPI 3.1.",
        body = serde_json::Value,
    )),
)]
pub async fn document(
    request: HttpRequest,
    description: web::Data<ApiDescription>,
) -> HttpResponse {
    let document = DOCUMENT.get_or_init(|| document_file(&description));
    let served = ServedFile {
        media_type: &document.media_type,
        tag: document.tag.clone(),
        cache_control: "no-cache",
    };
    files::answer(&request, served, document.contents(&request))
}

/// Redirect to the documentation
#[utoipa::path(
    get,
    operation_id = "getDocumentation",
    path = "/docs",
    tag = "server",
    security(()),
    responses((status = 308, description = "To `/docs/`.", headers(("Location" = String)))),
)]
pub async fn front() -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header((header::LOCATION, "/docs/"))
        .finish()
}

/// Get a file of the documentation
#[utoipa::path(
    get,
    operation_id = "getPage",
    path = "/docs/{file}",
    tag = "server",
    security(()),
    params((
        "file" = String, Path,
        description = "A file of the documentation; its first page if empty.",
    )),
    responses((
        status = 200,
        description = "A page, a script, a style or a picture.",
        body = String,
        content_type = "text/html",
    ))
)]
pub async fn page(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let file = file(request.match_info().query("file"))?.ok_or(Code::NotFound)?;
    let served = ServedFile {
        media_type: &file.media_type,
        tag: file.tag.clone(),
        cache_control: "no-cache",
    };
    let mut response = files::answer(&request, served, file.contents(&request));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    headers.insert(
        HeaderName::from_static("x-frame-options"),
        HeaderValue::from_static("DENY"),
    );
    Ok(response)
}

/// A file of the documentation, prepared once for all connections.
struct PageFile {
    media_type: String,
    tag: String,
    identity: Bytes,
    /// `None` if compression saves nothing.
    gzip: Option<Bytes>,
}

impl PageFile {
    fn new(media_type: String, identity: Bytes) -> io::Result<Self> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&identity)?;
        let gzip = gzip.finish()?;
        let mut hash = DefaultHasher::new();
        hash.write(&identity);
        let gzip = (gzip.len() < identity.len()).then(|| Bytes::from(gzip));
        Ok(Self {
            media_type,
            tag: format!("{:016x}", hash.finish()),
            identity,
            gzip,
        })
    }

    fn contents(&self, request: &HttpRequest) -> EncodedContents {
        match &self.gzip {
            Some(gzip) if files::accepts(request, ContentEncoding::Gzip) => EncodedContents {
                encoding: ContentEncoding::Gzip,
                bytes: gzip.clone(),
            },
            _ => EncodedContents {
                encoding: ContentEncoding::Identity,
                bytes: self.identity.clone(),
            },
        }
    }
}

/// The requested files by name: at most as many as the documentation has.
static FILES: LazyLock<Mutex<HashMap<String, Arc<PageFile>>>> = LazyLock::new(Mutex::default);

fn file(name: &str) -> Result<Option<Arc<PageFile>>, Code> {
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = files.get(name) {
        return Ok(Some(file.clone()));
    }
    let Some(file) = utoipa_swagger_ui::serve(name, PAGES.clone()).map_err(|_| Code::Internal)?
    else {
        return Ok(None);
    };
    let mut bytes = file.bytes.into_owned();
    if file.gzpipped {
        let mut plain = Vec::new();
        GzDecoder::new(bytes.as_slice())
            .read_to_end(&mut plain)
            .map_err(|_| Code::Internal)?;
        bytes = plain;
    }
    let file =
        Arc::new(PageFile::new(file.content_type, bytes.into()).map_err(|_| Code::Internal)?);
    files.insert(name.to_owned(), file.clone());
    Ok(Some(file))
}

/// Explain a problem
///
/// The address in the `type` of a problem.
#[utoipa::path(
    get,
    operation_id = "explainProblem",
    path = "/problems/{code}",
    tag = "server",
    security(()),
    params(("code" = String, Path, description = "The problem's code.")),
    responses((
        status = 200,
        description = "The meaning of the code, and what to do.",
        body = String,
        content_type = "text/plain",
    ))
)]
pub async fn problem(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let text = explanation(request.match_info().query("code")).ok_or(Code::NotFound)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(text))
}
