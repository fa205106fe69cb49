//! The form of an answer that a client wants, where a route has several (RFC 9110 §12.5.1). A route
//! with one form sends that form, whatever the client accepts.

use actix_web::HttpRequest;
use actix_web::http::header::{self, Quality, QualityItem};
use actix_web::mime::{self, Mime};
use chat_protocol::problem::{Code, Problem};

/// The forms that answers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`.
    Json,
    /// `text/event-stream`.
    Events,
}

impl Form {
    /// Its media type.
    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("application", "json"),
            Self::Events => ("text", "event-stream"),
        }
    }
}

/// The form the client likes best; the first of `offers` if it does not say. Among forms it likes
/// the same, the one it names more exactly, then the one offered first. A client that names nothing
/// but the form of problems, as generated clients do, does not say.
///
/// # Errors
/// `not_acceptable`.
pub fn choose(request: &HttpRequest, offers: &[Form]) -> Result<Form, Problem> {
    let values = request
        .headers()
        .get_all(header::ACCEPT)
        .map(|value| value.to_str().unwrap_or("not text"));
    let elements: Vec<_> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .collect();
    let is_silent = elements.iter().all(|element| is_of_problems(element));
    let ranges = if is_silent {
        vec![QualityItem::max(mime::STAR_STAR)]
    } else {
        elements.into_iter().filter_map(range).collect()
    };
    let mut best = None;
    for offer in offers {
        let liking = liking(&ranges, *offer);
        if liking.0 > Quality::ZERO && best.is_none_or(|(most, _)| liking > most) {
            best = Some((liking, *offer));
        }
    }
    best.map(|(_, offer)| offer)
        .ok_or_else(|| Code::NotAcceptable.into())
}

fn is_of_problems(element: &str) -> bool {
    element
        .split(';')
        .next()
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(Problem::MEDIA_TYPE))
}

/// A media range of a header. What is none is passed over, and a quality may begin with its point:
/// Java's own client sends `text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2` unless it is set
/// otherwise.
fn range(element: &str) -> Option<QualityItem<Mime>> {
    element.replace("q=.", "q=0.").parse().ok()
}

/// How much a form is liked, and how exactly it is named: the most exact range decides.
fn liking(ranges: &[QualityItem<Mime>], offer: Form) -> (Quality, u8) {
    let (kind, subtype) = offer.media_type();
    let matching = ranges.iter().filter_map(|range| {
        let exactness = match (range.item.type_().as_str(), range.item.subtype().as_str()) {
            ("*", "*") => 0,
            (given, "*") if given == kind => 1,
            (given, exact) if given == kind && exact == subtype => 2,
            _ => return None,
        };
        Some((exactness, range.quality))
    });
    matching
        .max_by_key(|(exactness, _)| *exactness)
        .map_or((Quality::ZERO, 0), |(exactness, liking)| {
            (liking, exactness)
        })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn chosen(accept: &str) -> Result<Form, Code> {
        let request = TestRequest::default()
            .insert_header((header::ACCEPT, accept))
            .to_http_request();
        choose(&request, &[Form::Json, Form::Events]).map_err(|problem| problem.code)
    }

    #[test]
    fn the_form_liked_best_is_chosen() {
        assert_eq!(
            choose(
                &TestRequest::default().to_http_request(),
                &[Form::Json, Form::Events]
            )
            .unwrap(),
            Form::Json
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
            assert_eq!(chosen(json), Ok(Form::Json), "{json}");
        }
        for events in [
            "text/event-stream",
            "text/*",
            "text/event-stream, */*",
            "text/event-stream, application/json;q=0.9",
            "*/*, application/json;q=0",
            "application/problem+json, text/event-stream",
        ] {
            assert_eq!(chosen(events), Ok(Form::Events), "{events}");
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
