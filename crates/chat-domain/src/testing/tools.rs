use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::{
    CallError, Invocation, RawJson, ToolError, ToolErrorKind, ToolOutput, ToolSpec, Toolset, UserId,
};

type Behaviour =
    Box<dyn Fn(Invocation) -> BoxFuture<'static, Result<ToolOutput, CallError>> + Send + Sync>;

/// Tools that do what the test wrote down, and remember who called them.
#[derive(Default)]
pub struct FakeTools {
    tools: BTreeMap<String, (ToolSpec, Behaviour)>,
    calls: Mutex<Vec<Invocation>>,
}

impl FakeTools {
    /// No tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool that answers this JSON.
    pub fn answering(self, name: &str, repeatable: bool, answer: &'static str) -> Self {
        self.with(name, repeatable, move |_| {
            Box::pin(async move { Ok(ToolOutput(RawJson::from_valid(answer))) })
        })
    }

    /// Adds a tool.
    pub fn with(
        mut self,
        name: &str,
        repeatable: bool,
        behaviour: impl Fn(Invocation) -> BoxFuture<'static, Result<ToolOutput, CallError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let spec = ToolSpec {
            name: name.to_owned(),
            description: format!("Does {name}."),
            input_schema: RawJson::from_valid(r#"{"type":"object"}"#),
            repeatable,
        };
        self.tools
            .insert(name.to_owned(), (spec, Box::new(behaviour)));
        self
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Invocation> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl Toolset for FakeTools {
    async fn specs(&self, _: &UserId) -> Vec<ToolSpec> {
        self.tools.values().map(|(spec, _)| spec.clone()).collect()
    }

    async fn call(&self, invocation: Invocation) -> Result<ToolOutput, CallError> {
        let Some((_, behaviour)) = self.tools.get(&invocation.tool) else {
            let message = format!("There is no tool named {}.", invocation.tool);
            return Err(ToolError::new(ToolErrorKind::UnknownTool, message).into());
        };
        if !invocation.arguments.as_str().trim_start().starts_with('{') {
            return Err(ToolError::new(
                ToolErrorKind::InvalidArguments,
                "The arguments are not a JSON object.",
            )
            .into());
        }
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(invocation.clone());
        behaviour(invocation).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::toolset_contract::ToolsetUnderTest;

    crate::toolset_contract! { async {
        let failed = ToolError::new(ToolErrorKind::Failed, "It does not work.");
        let toolset = FakeTools::new()
            .with("echo", true, |invocation| Box::pin(async move { Ok(ToolOutput(invocation.arguments)) }))
            .with("fail", false, move |_| {
                let failed = failed.clone();
                Box::pin(async move { Err(failed.into()) })
            });
        ToolsetUnderTest { toolset: Arc::new(toolset), echo: "echo".into(), failing: "fail".into(), guard: Box::new(()) }
    } }
}
