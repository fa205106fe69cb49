//! Valid and invalid tokens.

use std::time::Duration;

use chat_domain::{Timestamp, UserId};
use chat_protocol::Code;
use chat_server::testing::JwtSecret;
use chat_server::testing::TokenVerifier;
use chat_server::testing::{JwtVerifier, issue};
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn secret() -> JwtSecret {
    JwtSecret::new(SECRET).unwrap()
}

fn verifier() -> JwtVerifier {
    JwtVerifier::new(&secret(), None, None)
}

fn now() -> u64 {
    get_current_timestamp()
}

fn claims() -> Value {
    json!({"sub": "ada", "exp": now() + 3_600})
}

/// The valid claims with changes; `null` removes a claim.
fn but(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => _ = claims.as_object_mut().unwrap().remove(name),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn token(claims: &Value) -> String {
    signed(&Header::new(Algorithm::HS256), claims, SECRET)
}

fn signed(header: &Header, claims: &Value, secret: &str) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// A token with any header and a valid HS256 signature.
fn with_raw_header(header: &str) -> String {
    let payload = token(&claims()).split('.').nth(1).unwrap().to_owned();
    let message = format!("{header}.{payload}");
    let signature = sign(
        message.as_bytes(),
        &EncodingKey::from_secret(SECRET.as_bytes()),
        Algorithm::HS256,
    )
    .unwrap();
    format!("{message}.{signature}")
}

fn subject(token: &str) -> Result<UserId, Code> {
    verifier().verify(token)
}

#[test]
fn a_valid_token_names_its_user() {
    assert_eq!(subject(&token(&claims())), Ok(UserId::new("ada").unwrap()));
    let times = json!({"iat": now() - 5, "nbf": now() - 5, "extra": [1, 2]});
    assert_eq!(
        subject(&token(&but(times))),
        Ok(UserId::new("ada").unwrap())
    );
    let fractions = json!({"iat": now() as f64 + 0.5, "exp": now() as f64 + 60.5});
    assert_eq!(
        subject(&token(&but(fractions))),
        Ok(UserId::new("ada").unwrap())
    );
}

#[test]
fn foreign_and_malformed_tokens_are_invalid() {
    let good = token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let payload = message.split('.').nth(1).unwrap();
    // {"alg":"none","typ":"JWT"}, as in CVE-2015-9235
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    // {"alg":"RS256","typ":"JWT"}
    let rs256 = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9";
    // {"alg":"HS384","typ":"JWT"}
    let hs384 = "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9";
    let mut bent: String = signature.to_owned();
    let first = if bent.starts_with('A') { "B" } else { "A" };
    bent.replace_range(0..1, first);
    let tokens = [
        ("garbage", "garbage".to_owned()),
        ("dots", "..".to_owned()),
        ("no signature", format!("{message}.")),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("bent signature", format!("{message}.{bent}")),
        (
            "another secret",
            signed(
                &Header::new(Algorithm::HS256),
                &claims(),
                "another secret, also 32 bytes long",
            ),
        ),
        ("alg none, unsigned", format!("{none}.{payload}.")),
        ("alg none, signed", with_raw_header(none)),
        ("RS256 over our secret", with_raw_header(rs256)),
        ("HS384 by name", with_raw_header(hs384)),
        (
            "HS384 in truth",
            signed(&Header::new(Algorithm::HS384), &claims(), SECRET),
        ),
        (
            "HS512 in truth",
            signed(&Header::new(Algorithm::HS512), &claims(), SECRET),
        ),
        (
            "payload of another token",
            format!(
                "{}.{signature}",
                token(&but(json!({"sub": "eve"})))
                    .rsplit_once('.')
                    .unwrap()
                    .0
            ),
        ),
        (
            "no JSON object",
            signed(&Header::new(Algorithm::HS256), &json!("ada"), SECRET),
        ),
    ];
    for (name, token) in tokens {
        assert_eq!(subject(&token), Err(Code::InvalidToken), "{name}");
    }
}

#[test]
fn required_claims_must_be_valid() {
    let wrong = [
        json!({"exp": null}),
        json!({"exp": (now() + 3_600).to_string()}),
        json!({"exp": [now() + 3_600]}),
        json!({"exp": true}),
        json!({"nbf": "now"}),
        json!({"iat": "now"}),
        json!({"sub": null}),
        json!({"sub": 7}),
        json!({"sub": ""}),
        json!({"sub": "a\u{0}da"}),
        json!({"sub": "x".repeat(129)}),
        // RFC 7519 §4.1.3: a token for an audience is invalid for a server outside of it.
        json!({"aud": "another service"}),
    ];
    for changes in wrong {
        assert_eq!(
            subject(&token(&but(changes.clone()))),
            Err(Code::InvalidToken),
            "{changes}"
        );
    }
    let longest = "x".repeat(128);
    assert_eq!(
        subject(&token(&but(json!({"sub": longest})))),
        Ok(UserId::new(longest).unwrap())
    );
}

#[test]
fn critical_headers_are_rejected() {
    let header = Header {
        crit: Some(vec!["exp".to_owned()]),
        ..Header::new(Algorithm::HS256)
    };
    assert_eq!(
        subject(&signed(&header, &claims(), SECRET)),
        Err(Code::InvalidToken)
    );
    let none = Header {
        crit: Some(vec![]),
        ..Header::new(Algorithm::HS256)
    };
    assert_eq!(
        subject(&signed(&none, &claims(), SECRET)),
        Err(Code::InvalidToken)
    );
    // {"alg":"HS256","b64":false}, {"alg":"HS256","b64":true} and {"alg":"HS256"}
    for b64 in [
        "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2V9",
        "eyJhbGciOiJIUzI1NiIsImI2NCI6dHJ1ZX0",
    ] {
        assert_eq!(subject(&with_raw_header(b64)), Err(Code::InvalidToken));
    }
    assert!(subject(&with_raw_header("eyJhbGciOiJIUzI1NiJ9")).is_ok());
}

#[test]
fn clocks_may_differ_by_a_minute() {
    let cases = [
        (json!({"exp": now() - 30}), None),
        (json!({"exp": now() - 90}), Some(Code::TokenExpired)),
        (json!({"exp": 1}), Some(Code::TokenExpired)),
        (json!({"exp": -1}), Some(Code::TokenExpired)),
        (json!({"exp": -1e300}), Some(Code::TokenExpired)),
        (json!({"exp": 1e300}), None),
        (json!({"nbf": -1}), None),
        (json!({"nbf": 1e300}), Some(Code::TokenNotYetValid)),
        (json!({"iat": 1e300}), Some(Code::TokenNotYetValid)),
        (json!({"nbf": now() + 30}), None),
        (json!({"nbf": now() + 90}), Some(Code::TokenNotYetValid)),
        (json!({"iat": now() + 30}), None),
        (json!({"iat": now() + 90}), Some(Code::TokenNotYetValid)),
    ];
    for (changes, error) in cases {
        assert_eq!(
            subject(&token(&but(changes.clone()))).err(),
            error,
            "{changes}"
        );
    }
}

#[test]
fn issuer_and_audience_are_checked_when_configured() {
    let strict = JwtVerifier::new(&secret(), Some("idp"), Some("chat"));
    let cases = [
        (json!({"iss": "idp", "aud": "chat"}), true),
        (json!({"iss": "idp", "aud": ["mail", "chat"]}), true),
        (json!({}), false),
        (json!({"iss": "idp"}), false),
        (json!({"aud": "chat"}), false),
        (json!({"iss": "idp", "aud": "mail"}), false),
        (json!({"iss": "idp", "aud": []}), false),
        (json!({"iss": "somebody", "aud": "chat"}), false),
        (json!({"iss": 7, "aud": "chat"}), false),
    ];
    for (changes, good) in cases {
        let expected = if good {
            Ok(UserId::new("ada").unwrap())
        } else {
            Err(Code::InvalidToken)
        };
        assert_eq!(
            strict.verify(&token(&but(changes.clone()))),
            expected,
            "{changes}"
        );
    }
}

#[test]
fn issued_tokens_are_valid_until_they_expire() {
    let seconds = i64::try_from(now()).unwrap();
    let at = |seconds: i64| Timestamp(seconds * 1_000_000);
    let fresh = issue(&secret(), "ada", at(seconds), Duration::from_secs(60)).unwrap();
    assert_eq!(subject(&fresh), Ok(UserId::new("ada").unwrap()));
    let old = issue(&secret(), "ada", at(seconds - 200), Duration::from_secs(60)).unwrap();
    assert_eq!(subject(&old), Err(Code::TokenExpired));
}
