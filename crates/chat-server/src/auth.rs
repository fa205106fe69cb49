//! Tokens: JSON Web Tokens (RFC 7519), checked after RFC 8725.

use std::time::Duration;

use chat_domain::{Timestamp, UserId};
use chat_protocol::problem::Code;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::app::TokenVerifier;
use crate::config::JwtSecret;

/// How far the clocks of the issuer and of this server may be apart.
const LEEWAY_SECONDS: u64 = 60;

/// What we read of a token.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    iat: Option<f64>,
}

/// Accepts tokens signed by HS256 with one secret. The algorithm is ours to say, never the token's.
#[derive(Clone)]
pub struct JwtVerifier {
    key: DecodingKey,
    validation: Validation,
}

impl JwtVerifier {
    /// A token must name the issuer and the audience if they are given; without an audience, it must name none.
    pub fn new(secret: &JwtSecret, issuer: Option<&str>, audience: Option<&str>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        // Off by default in jsonwebtoken.
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Self { key: DecodingKey::from_secret(secret.expose()), validation }
    }
}

impl TokenVerifier for JwtVerifier {
    fn verify(&self, token: &str) -> Result<UserId, Code> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => Code::TokenExpired,
            ErrorKind::ImmatureSignature => Code::TokenNotYetValid,
            _ => Code::InvalidToken,
        })?;
        // RFC 7515 §4.1.11: whoever does not understand all that is critical must refuse; jsonwebtoken leaves it to us.
        if data.header.crit.is_some() {
            return Err(Code::InvalidToken);
        }
        let latest = (jsonwebtoken::get_current_timestamp() + LEEWAY_SECONDS) as f64;
        if data.claims.iat.is_some_and(|issued| issued > latest) {
            return Err(Code::TokenNotYetValid);
        }
        UserId::new(data.claims.sub).ok_or(Code::InvalidToken)
    }
}

/// What [`issue`] writes.
#[derive(Serialize)]
struct IssuedClaims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
}

/// A token of `subject`, valid from `now` for `lifetime`.
///
/// # Errors
/// The signature's; with HS256 there are none.
pub fn issue(secret: &JwtSecret, subject: &str, now: Timestamp, lifetime: Duration) -> Result<String, jsonwebtoken::errors::Error> {
    let iat = now.0.div_euclid(1_000_000);
    let exp = iat.saturating_add_unsigned(lifetime.as_secs());
    let claims = IssuedClaims { sub: subject, iat, exp };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.expose()))
}
