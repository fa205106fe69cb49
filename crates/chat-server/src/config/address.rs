//! Addresses and origins of other sites, safe in headers and in pages.

use figment::value::Value;

use super::value::{self, Setting};

/// The address of a page: `http` or `https`, without a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub String);

impl Setting for Address {
    const EXPECTED: &'static str = "an address that begins with https:// or http://, \
        without # and spaces, such as https://login.example/chat";

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (_, rest) = split_scheme(text)?;
        let (host, _) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let plain = rest
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"#\"'<>\\^`{|}".contains(&byte));
        (is_host(host) && plain).then(|| Self(text.to_owned()))
    }
}

/// A list of origins (RFC 6454): scheme, host and optional port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(pub Vec<String>);

impl Origins {
    fn of(origins: impl Iterator<Item = String>) -> Option<Self> {
        let origin = |text: String| {
            Some(text.trim())
                .filter(|text| is_origin(text))
                .map(str::to_owned)
        };
        let origins: Vec<_> = origins.map(origin).collect::<Option<_>>()?;
        (!origins.is_empty()).then_some(Self(origins))
    }
}

fn is_origin(text: &str) -> bool {
    split_scheme(text).is_some_and(|(_, host)| is_host(host))
}

impl Setting for Origins {
    const EXPECTED: &'static str =
        "a list of origins without paths, such as https://app.example.com,http://localhost:3000";

    fn parse(text: &str) -> Option<Self> {
        Self::of(text.split(',').map(str::to_owned))
    }

    fn read(value: Option<&Value>) -> Option<Self> {
        match value? {
            Value::Array(_, origins) => Self::of(
                origins
                    .iter()
                    .map(|origin| value::text(origin).unwrap_or_default()),
            ),
            value => Self::parse(&value::text(value)?),
        }
    }
}

fn split_scheme(text: &str) -> Option<(&str, &str)> {
    text.split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
}

/// A host name or address as browsers write it in an origin, with an optional port. `*` is
/// rejected: each origin must be named.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let named = !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte)
        });
    named
        && (port.is_empty()
            || port
                .strip_prefix(':')
                .is_some_and(|port| port.parse::<u16>().is_ok_and(|number| number > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact() {
        let read = |text: &str| Origins::parse(text).map(|origins| origins.0);
        assert_eq!(
            read(" https://a.example,http://127.0.0.1:3000 , http://[::1]:80"),
            Some(vec![
                "https://a.example".into(),
                "http://127.0.0.1:3000".into(),
                "http://[::1]:80".into()
            ])
        );
        for bad in [
            "",
            "*",
            "https://*",
            "https://*.example",
            "a.example",
            "ftp://a.example",
            "https://a.example/",
            "https://a.example/path",
            "https://A.example",
            "https://user@a.example",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:99999",
            "https://a.example;script-src",
            "https://a.example https://b.example",
            "https://a.example,",
            "null",
            "'self'",
            "http://[::1",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_has_no_fragment_and_no_quotes() {
        for good in [
            "https://login.example",
            "https://login.example/chat?tenant=a&x=%20",
            "http://127.0.0.1:9000/in",
        ] {
            assert_eq!(Address::parse(good), Some(Address(good.to_owned())));
        }
        for bad in [
            "",
            "login.example",
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "https://a.example/#x",
            "https://a.example/\"",
            "https://a b",
        ] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }
}
