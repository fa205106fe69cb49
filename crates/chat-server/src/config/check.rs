//! Checks of several settings together.

use super::value::AgentKind;
use super::{Config, ConfigError};

impl Config {
    /// Checks the settings that depend on each other.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        self.check_authentication(&mut faults);
        self.check_agent(&mut faults);
        if self.lease < self.heartbeat * 2 {
            faults.push(
                "CHAT_LEASE: must be at least twice as long as CHAT_HEARTBEAT, or servers lose the \
                 turns that they run"
                    .to_owned(),
            );
        }
        self.check_database_timeouts(&mut faults);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { faults })
        }
    }

    fn check_authentication(&self, faults: &mut Vec<String>) {
        if self.jwt_secret.is_some() {
            return;
        }
        if !self.listen.ip().is_loopback() {
            faults.push(format!(
                "CHAT_LISTEN: {} is not a loopback address, and without CHAT_JWT_SECRET the server \
                 runs in development mode, for this machine only; set CHAT_JWT_SECRET, or listen \
                 on 127.0.0.1",
                self.listen
            ));
        }
        if self.jwt_issuer.is_some() || self.jwt_audience.is_some() {
            faults.push(
                "CHAT_JWT_ISSUER, CHAT_JWT_AUDIENCE: require CHAT_JWT_SECRET; development mode \
                 makes its own tokens"
                    .to_owned(),
            );
        }
    }

    fn check_agent(&self, faults: &mut Vec<String>) {
        if self.agent_kind() == AgentKind::OpenAi {
            if self.agent_url.is_none() {
                faults.push("CHAT_AGENT_URL: is required when CHAT_AGENT is openai".to_owned());
            }
            if self.agent_model.is_none() {
                faults.push(
                    "CHAT_AGENT_MODEL: is required when the agent is reached by CHAT_AGENT_URL"
                        .to_owned(),
                );
            }
        }
        if self.step_timeout() > self.turn_timeout {
            faults.push(
                "CHAT_AGENT_STEP_TIMEOUT: must not be longer than CHAT_TURN_TIMEOUT".to_owned(),
            );
        }
    }

    /// An inner timeout must be shorter than the outer one, so that the error says what was slow.
    fn check_database_timeouts(&self, faults: &mut Vec<String>) {
        if !self.database_url.is_shared() {
            return;
        }
        let statement = (
            "CHAT_DATABASE_STATEMENT_TIMEOUT",
            self.database_statement_timeout,
        );
        let acquire = (
            "CHAT_DATABASE_ACQUIRE_TIMEOUT",
            self.database_acquire_timeout,
        );
        let connect = (
            "CHAT_DATABASE_CONNECT_TIMEOUT",
            self.database_connect_timeout,
        );
        let call = ("CHAT_DATABASE_TIMEOUT", self.database_timeout);
        for (inner, outer) in [(statement, acquire), (acquire, call), (connect, call)] {
            if inner.1 >= outer.1 {
                faults.push(format!(
                    "{}: must be shorter than {}, so that the error says what was slow",
                    inner.0, outer.0
                ));
            }
        }
    }
}
