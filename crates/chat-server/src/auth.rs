//! JSON Web Tokens (RFC 7519), verified as RFC 8725 recommends.

use std::borrow::Cow;
use std::time::Duration;

use chat_domain::{Timestamp, UserId};
use chat_protocol::Code;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::config::JwtSecret;

/// Verifies tokens. Independent of HTTP: the callers check the header and the path.
pub trait TokenVerifier: Send + Sync {
    /// The subject of a valid token.
    ///
    /// # Errors
    /// `InvalidToken`, `TokenExpired` or `TokenNotYetValid`.
    fn verify(&self, token: &str) -> Result<UserId, Code>;
}

/// The largest difference between the clocks of the issuer and of this server.
const LEEWAY_SECONDS: u64 = 60;

/// The claims that are read from a token.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
}

/// Why a token is rejected: the code for the client, and a reason for the log without any part of
/// the token.
struct Rejected(Code, Cow<'static, str>);

impl Rejected {
    fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Code::InvalidToken, reason.into())
    }
}

impl From<jsonwebtoken::errors::Error> for Rejected {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        Self::invalid(match error.kind() {
            ErrorKind::InvalidSignature => {
                "the token is not signed with this server's secret".into()
            }
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                "the token is not signed by HS256".into()
            }
            // The name is one of the claims that the verifier requires, not a text of the client.
            ErrorKind::MissingRequiredClaim(name) => {
                Cow::from(format!("the token has no valid `{name}`"))
            }
            ErrorKind::InvalidIssuer => "the token's `iss` is not CHAT_JWT_ISSUER".into(),
            ErrorKind::InvalidAudience => {
                "the token's `aud` does not match CHAT_JWT_AUDIENCE".into()
            }
            ErrorKind::Json(_) => "the token's header or claims are invalid JSON".into(),
            _ => "the token is not a JSON Web Token".into(),
        })
    }
}

/// Accepts tokens signed by HS256 with one secret. The server chooses the algorithm, never the
/// token.
#[derive(Clone)]
pub struct JwtVerifier {
    key: DecodingKey,
    validation: Validation,
}

impl JwtVerifier {
    /// Accepts tokens with this issuer and audience, if given. Without an audience, a token must
    /// have none.
    pub fn new(secret: &JwtSecret, issuer: Option<&str>, audience: Option<&str>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // `check` validates times: jsonwebtoken ignores times before 1970 and after the year 2^64.
        validation.validate_exp = false;
        let mut required = vec!["sub"];
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Self {
            key: DecodingKey::from_secret(secret.expose()),
            validation,
        }
    }
}

impl TokenVerifier for JwtVerifier {
    fn verify(&self, token: &str) -> Result<UserId, Code> {
        self.check(token).map_err(|Rejected(code, reason)| {
            tracing::info!(code = code.row().code, %reason, "token rejected");
            code
        })
    }
}

impl JwtVerifier {
    fn check(&self, token: &str) -> Result<UserId, Rejected> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)?;
        // RFC 7515 §4.1.11: a recipient must reject extensions in `crit` that it does not support;
        // jsonwebtoken does not check them.
        if data.header.crit.is_some() {
            return Err(Rejected::invalid("the token's header has a `crit`"));
        }
        // RFC 7797: the payload would have another encoding.
        if data.header.extras.inner().contains_key("b64") {
            return Err(Rejected::invalid("the token's header has a `b64`"));
        }
        let (now, leeway) = (
            jsonwebtoken::get_current_timestamp() as f64,
            LEEWAY_SECONDS as f64,
        );
        let exp = data
            .claims
            .exp
            .ok_or(Rejected::invalid("the token has no `exp`"))?;
        if exp + leeway <= now {
            return Err(Rejected(
                Code::TokenExpired,
                "the token's `exp` is in the past".into(),
            ));
        }
        if data.claims.nbf.is_some_and(|nbf| nbf > now + leeway) {
            return Err(Rejected(
                Code::TokenNotYetValid,
                "the token's `nbf` is in the future; check the clocks".into(),
            ));
        }
        if data.claims.iat.is_some_and(|iat| iat > now + leeway) {
            return Err(Rejected(
                Code::TokenNotYetValid,
                "the token's `iat` is in the future; check the clocks".into(),
            ));
        }
        UserId::new(data.claims.sub).ok_or(Rejected::invalid(
            "the token's `sub` is not 1 to 128 bytes without control characters",
        ))
    }
}

/// The claims that [`issue`] writes.
#[derive(Serialize)]
struct IssuedClaims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
}

/// A token of `subject`, valid from `now` for `lifetime`.
///
/// # Errors
/// The signature failed, which HS256 never does.
pub fn issue(
    secret: &JwtSecret,
    subject: &str,
    now: Timestamp,
    lifetime: Duration,
) -> Result<String, jsonwebtoken::errors::Error> {
    let iat = now.0.div_euclid(1_000_000);
    let exp = iat.saturating_add_unsigned(lifetime.as_secs());
    let claims = IssuedClaims {
        sub: subject,
        iat,
        exp,
    };
    jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(secret.expose()),
    )
}
