//! Tokens: JSON Web Tokens (RFC 7519), checked after RFC 8725.

use std::borrow::Cow;
use std::time::Duration;

use chat_domain::{Timestamp, UserId};
use chat_protocol::Code;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::config::JwtSecret;

/// Verifies tokens. Knows no HTTP: the header a token comes in, and the path it is used
/// on, is checked around it.
pub trait TokenVerifier: Send + Sync {
    /// The subject of a valid token.
    ///
    /// # Errors
    /// `InvalidToken`, `TokenExpired` or `TokenNotYetValid`.
    fn verify(&self, token: &str) -> Result<UserId, Code>;
}

/// How far the clocks of the issuer and of this server may be apart.
const LEEWAY_SECONDS: u64 = 60;

/// The claims that are read of a token.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
}

/// Why a token is refused: the code for the client, and a reason for the log that holds nothing of
/// the token.
struct Refused(Code, Cow<'static, str>);

impl Refused {
    fn invalid(why: impl Into<Cow<'static, str>>) -> Self {
        Self(Code::InvalidToken, why.into())
    }
}

impl From<jsonwebtoken::errors::Error> for Refused {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        Self::invalid(match error.kind() {
            ErrorKind::InvalidSignature => {
                "the token is not signed with this server's secret".into()
            }
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                "the token is not signed by HS256".into()
            }
            // The names are our own, those of the claims that we require.
            ErrorKind::MissingRequiredClaim(name) => {
                Cow::from(format!("the token has no `{name}` that can be read"))
            }
            ErrorKind::InvalidIssuer => "the token's `iss` is not CHAT_JWT_ISSUER".into(),
            ErrorKind::InvalidAudience => {
                "the token's `aud` does not go with CHAT_JWT_AUDIENCE".into()
            }
            ErrorKind::Json(_) => {
                "the token's header or claims are not the JSON that they should be".into()
            }
            _ => "what was sent is not a JSON Web Token".into(),
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
    /// A token must name the issuer and the audience if they are given; without an audience, it
    /// must name none.
    pub fn new(secret: &JwtSecret, issuer: Option<&str>, audience: Option<&str>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked here: jsonwebtoken takes those before 1970 and after the year 2^64 for
        // no times at all.
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
        self.check(token).map_err(|Refused(code, why)| {
            tracing::info!(code = code.row().code, %why, "token refused");
            code
        })
    }
}

impl JwtVerifier {
    fn check(&self, token: &str) -> Result<UserId, Refused> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)?;
        // RFC 7515 §4.1.11: a recipient that does not understand everything critical must refuse;
        // jsonwebtoken leaves that to its caller.
        if data.header.crit.is_some() {
            return Err(Refused::invalid("the token's header has a `crit`"));
        }
        // RFC 7797: the payload would mean something else.
        if data.header.extras.inner().contains_key("b64") {
            return Err(Refused::invalid("the token's header has a `b64`"));
        }
        let (now, leeway) = (
            jsonwebtoken::get_current_timestamp() as f64,
            LEEWAY_SECONDS as f64,
        );
        let exp = data
            .claims
            .exp
            .ok_or(Refused::invalid("the token has no `exp`"))?;
        if exp + leeway <= now {
            return Err(Refused(
                Code::TokenExpired,
                "the token's `exp` is over".into(),
            ));
        }
        if data.claims.nbf.is_some_and(|begins| begins > now + leeway) {
            return Err(Refused(
                Code::TokenNotYetValid,
                "the token's `nbf` is to come; do the clocks agree?".into(),
            ));
        }
        if data.claims.iat.is_some_and(|issued| issued > now + leeway) {
            return Err(Refused(
                Code::TokenNotYetValid,
                "the token's `iat` is to come; do the clocks agree?".into(),
            ));
        }
        UserId::new(data.claims.sub).ok_or(Refused::invalid(
            "the token's `sub` is no user: 1 to 128 bytes without control characters",
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
/// The signature's; with HS256 there are none.
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
