//! Content negotiation where a route has several reply formats (RFC 9110 §12.5.1). A route with one
//! format sends that format, whatever the client accepts.

use actix_web::HttpRequest;
use actix_web::http::header::{self, Quality, QualityItem};
use actix_web::mime::{self, Mime};
use chat_protocol::{Code, Problem};

/// The format of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFormat {
    /// `application/json`.
    Json,
    /// `text/event-stream`.
    EventStream,
}

impl ReplyFormat {
    /// Its media type.
    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("application", "json"),
            Self::EventStream => ("text", "event-stream"),
        }
    }
}

/// The format that the client prefers; the first of `offers` if the client has no preference. Among
/// formats of equal quality, the format that the client names more specifically, then the one
/// offered first. A client that accepts only problems, as generated clients do, has no preference.
///
/// # Errors
/// `not_acceptable`.
pub fn choose(request: &HttpRequest, offers: &[ReplyFormat]) -> Result<ReplyFormat, Problem> {
    let values = request
        .headers()
        .get_all(header::ACCEPT)
        .map(|value| value.to_str().unwrap_or("not text"));
    let elements: Vec<_> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .collect();
    let has_no_preference = elements.iter().all(|element| is_problem_type(element));
    let ranges = if has_no_preference {
        vec![QualityItem::max(mime::STAR_STAR)]
    } else {
        elements.into_iter().filter_map(range).collect()
    };
    let mut best = None;
    for offer in offers {
        let quality = quality(&ranges, *offer);
        if quality.0 > Quality::ZERO && best.is_none_or(|(highest, _)| quality > highest) {
            best = Some((quality, *offer));
        }
    }
    best.map(|(_, offer)| offer)
        .ok_or_else(|| Code::NotAcceptable.into())
}

fn is_problem_type(element: &str) -> bool {
    element
        .split(';')
        .next()
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(Problem::MEDIA_TYPE))
}

/// A media range of a header; `None` for other text. A quality may begin with its point: Java's own
/// client sends `text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2` by default.
fn range(element: &str) -> Option<QualityItem<Mime>> {
    element.replace("q=.", "q=0.").parse().ok()
}

/// The quality of a format, and how specifically it is named: the most specific range decides.
fn quality(ranges: &[QualityItem<Mime>], offer: ReplyFormat) -> (Quality, u8) {
    let (kind, subtype) = offer.media_type();
    let matching = ranges.iter().filter_map(|range| {
        let specificity = match (range.item.type_().as_str(), range.item.subtype().as_str()) {
            ("*", "*") => 0,
            (given, "*") if given == kind => 1,
            (given, exact) if given == kind && exact == subtype => 2,
            _ => return None,
        };
        Some((specificity, range.quality))
    });
    matching
        .max_by_key(|(specificity, _)| *specificity)
        .map_or((Quality::ZERO, 0), |(specificity, quality)| {
            (quality, specificity)
        })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn chosen(accept: &str) -> Result<ReplyFormat, Code> {
        let request = TestRequest::default()
            .insert_header((header::ACCEPT, accept))
            .to_http_request();
        choose(&request, &[ReplyFormat::Json, ReplyFormat::EventStream])
            .map_err(|problem| problem.code)
    }

    #[test]
    fn the_preferred_format_is_chosen() {
        assert_eq!(
            choose(
                &TestRequest::default().to_http_request(),
                &[ReplyFormat::Json, ReplyFormat::EventStream]
            )
            .unwrap(),
            ReplyFormat::Json
        );
        for json in [
            "*/*",
            "application/json",
            "application/*",
            "text/html, application/json;q=0.1",
            "application/json, text/event-stream",
            "text/event-stream;q=0.9, */*",
            "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
            "nonsense, application/json",
            "application/json;q=much, */*;q=0.1",
            "",
            " , ",
            "application/problem+json",
            "application/problem+json;q=0.5, Application/Problem+JSON",
            "application/problem+json, application/json",
        ] {
            assert_eq!(chosen(json), Ok(ReplyFormat::Json), "{json}");
        }
        for events in [
            "text/event-stream",
            "text/*",
            "text/event-stream, */*",
            "text/event-stream, application/json;q=0.9",
            "*/*, application/json;q=0",
            "application/problem+json, text/event-stream",
        ] {
            assert_eq!(chosen(events), Ok(ReplyFormat::EventStream), "{events}");
        }
        for none in [
            "text/html",
            "image/*",
            "application/json;q=0",
            "*/*;q=0",
            "nonsense",
            "application/problem+json, text/html",
        ] {
            assert_eq!(chosen(none), Err(Code::NotAcceptable), "{none}");
        }
    }
}
