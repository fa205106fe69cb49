//! Settings of the chat page, and its content security policy.

use chat_domain::TurnLimits;
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::{AgentKind, Config};
use crate::sign_in::OneTimeCode;

/// The settings that the page needs before sign-in. None is secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PageSettings {
    /// The name of the agent.
    pub agent_name: String,
    /// Suggestions for a first message.
    pub suggestions: Vec<String>,
    /// How users get a token.
    pub sign_in: SignIn,
    /// The origins whose pages may embed this one and give it a token.
    pub embedders: Vec<String>,
    /// The origins of pictures that the page shows.
    pub images: Vec<String>,
    /// The longest message, in characters.
    pub message_limit: usize,
    /// The number of tool calls of a step that run at the same time; further calls wait.
    pub calls_at_once: usize,
}

/// How a user gets a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum SignIn {
    /// By the one-time code in the address that the server printed, or by the printed token.
    Code,
    /// At an address that returns users with a token.
    Address {
        /// The address.
        url: String,
    },
    /// From the embedding page, or pasted by the user.
    Token,
}

/// The chat page: its settings and its sign-in code.
pub struct Page {
    /// Its settings.
    pub settings: PageSettings,
    /// The code, in development mode.
    pub code: Option<OneTimeCode>,
}

impl Default for Page {
    fn default() -> Self {
        let limits = TurnLimits::default();
        let settings = PageSettings {
            agent_name: "Assistant".to_owned(),
            suggestions: Vec::new(),
            sign_in: SignIn::Token,
            embedders: Vec::new(),
            images: Vec::new(),
            message_limit: limits.message_chars,
            calls_at_once: limits.calls_at_once,
        };
        Self {
            settings,
            code: None,
        }
    }
}

impl Page {
    /// The page with these settings.
    pub fn new(config: &Config, code: Option<OneTimeCode>) -> Self {
        let suggestions = match (&config.page_suggestions, config.agent_kind()) {
            (Some(suggestions), _) => suggestions.0.clone(),
            (None, AgentKind::Demo) => [
                "Add task: Buy groceries",
                "What is on my list?",
                "What can you do?",
            ]
            .map(str::to_owned)
            .into(),
            (None, AgentKind::OpenAi) => Vec::new(),
        };
        let sign_in = match (&config.page_sign_in, &code) {
            (Some(address), _) => SignIn::Address {
                url: address.0.clone(),
            },
            (None, Some(_)) => SignIn::Code,
            (None, None) => SignIn::Token,
        };
        let settings = PageSettings {
            agent_name: config.page_name.clone(),
            suggestions,
            sign_in,
            embedders: config.page_embedders.clone().unwrap_or_default().0,
            images: config.page_images.clone().unwrap_or_default().0,
            message_limit: config.message_limit.get(),
            calls_at_once: config.calls_at_once.get(),
        };
        Self { settings, code }
    }

    /// Its Content-Security-Policy: resources of this server only, no inline scripts, no text that
    /// becomes a script.
    pub fn policy(&self) -> String {
        let list = |origins: &[String]| {
            origins
                .iter()
                .map(|origin| format!(" {origin}"))
                .collect::<String>()
        };
        let ancestors = if self.settings.embedders.is_empty() {
            " 'none'".to_owned()
        } else {
            list(&self.settings.embedders)
        };
        format!(
            "default-src 'self'; script-src 'self'; style-src 'self'; font-src 'self'; \
             connect-src 'self'; img-src 'self'{}; object-src 'none'; frame-src 'none'; \
             base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
             trusted-types 'none'; frame-ancestors{ancestors}",
            list(&self.settings.images)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_origins_may_embed_the_page() {
        let mut page = Page::default();
        assert!(page.policy().ends_with("frame-ancestors 'none'"));
        page.settings.embedders = vec![
            "https://a.example".to_owned(),
            "https://b.example".to_owned(),
        ];
        page.settings.images = vec!["https://pictures.example".to_owned()];
        let policy = page.policy();
        assert!(
            policy.ends_with("frame-ancestors https://a.example https://b.example"),
            "{policy}"
        );
        assert!(
            policy.contains("img-src 'self' https://pictures.example;"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
