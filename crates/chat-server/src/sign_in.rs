//! Signing a browser in, in development mode.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chat_domain::Timestamp;

use crate::auth;
use crate::config::JwtSecret;

/// A code that can be exchanged for a token once.
pub struct OneTimeCode {
    code: Mutex<Option<String>>,
    secret: JwtSecret,
    subject: &'static str,
    lifetime: Duration,
}

impl OneTimeCode {
    /// A new code for tokens of `subject`.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn new(
        secret: JwtSecret,
        subject: &'static str,
        lifetime: Duration,
    ) -> Result<Self, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let code = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            code: Mutex::new(Some(code)),
            secret,
            subject,
            lifetime,
        })
    }

    /// The code, unless it was used.
    pub fn text(&self) -> Option<String> {
        self.code
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Exchanges the code for a token. The code is not valid afterwards.
    pub fn redeem(&self, given: &str, now: Timestamp) -> Option<String> {
        let mut code = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        if !code
            .as_ref()
            .is_some_and(|code| equal_in_constant_time(code.as_bytes(), given.as_bytes()))
        {
            return None;
        }
        *code = None;
        auth::issue(&self.secret, self.subject, now, self.lifetime).ok()
    }
}

/// Whether two texts are equal, in constant time.
fn equal_in_constant_time(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .fold(0, |differences, (one, other)| differences | (one ^ other))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::JwtVerifier;
    use crate::auth::TokenVerifier;

    #[test]
    fn only_the_code_works_and_only_once() {
        let secret = JwtSecret::new("0123456789abcdef0123456789abcdef").unwrap();
        let code = OneTimeCode::new(secret.clone(), "demo", Duration::from_secs(60)).unwrap();
        let now =
            Timestamp(i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap() * 1_000_000);
        let text = code.text().unwrap();
        assert_eq!(text.len(), 32);
        for wrong in ["", "0", &text[1..], &format!("{text}0"), &"0".repeat(32)] {
            assert_eq!(code.redeem(wrong, now), None, "{wrong}");
        }
        let token = code.redeem(&text, now).unwrap();
        assert_eq!(
            JwtVerifier::new(&secret, None, None)
                .verify(&token)
                .unwrap()
                .as_str(),
            "demo"
        );
        assert_eq!(
            (code.redeem(&text, now), code.redeem("", now), code.text()),
            (None, None, None)
        );
    }
}
