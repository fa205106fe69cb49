//! The contract of every [`Toolset`], case by case. [`toolset_contract!`](crate::toolset_contract)
//! runs all cases.
// A failed case is a failed test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::{
    CallError, ConversationId, Invocation, RawJson, ToolCallId, ToolErrorKind, ToolOutput, Toolset,
    TurnId, UserId,
};

/// Makes one test of each case of the toolset's contract.
///
/// Takes an expression whose future gives a [`ToolsetUnderTest`].
#[macro_export]
macro_rules! toolset_contract {
    ($toolset:expr) => {
        $crate::toolset_contract! { @cases $toolset;
            tools_are_described
            a_tool_answers
            a_failing_tool_says_so
            an_unknown_tool_is_refused
            arguments_are_objects
            calls_do_not_mix
        }
    };
    (@cases $toolset:expr; $($case:ident)+) => {$(
        #[tokio::test]
        async fn $case() {
            $crate::testing::toolset_contract::$case($toolset.await).await;
        }
    )+};
}

/// A toolset with two tools that the cases call.
pub struct ToolsetUnderTest {
    /// The toolset.
    pub toolset: Arc<dyn Toolset>,
    /// A tool that answers with its argument `text` somewhere in its answer.
    pub echo: String,
    /// A tool that fails, whatever its arguments.
    pub failing: String,
    /// Whatever must live as long as the toolset.
    pub guard: Box<dyn std::any::Any + Send>,
}

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

impl ToolsetUnderTest {
    async fn call(&self, tool: &str, arguments: &str) -> Result<ToolOutput, CallError> {
        let invocation = Invocation {
            owner: ann(),
            conversation: ConversationId(Uuid::now_v7()),
            turn: TurnId(Uuid::now_v7()),
            call: ToolCallId(Uuid::now_v7()),
            tool: tool.to_owned(),
            arguments: RawJson::from_valid(arguments),
        };
        self.toolset.call(invocation).await
    }

    async fn refused(&self, tool: &str, arguments: &str) -> ToolErrorKind {
        match self.call(tool, arguments).await {
            Err(CallError::Failed(error)) => {
                assert!(!error.message.is_empty(), "the agent gets no reason");
                error.kind
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// Each tool has a name of its own and a schema that is an object.
pub async fn tools_are_described(under_test: ToolsetUnderTest) {
    let specs = under_test.toolset.specs(&ann()).await;
    let names: HashSet<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names.len(), specs.len());
    assert!(
        names.contains(under_test.echo.as_str()) && names.contains(under_test.failing.as_str())
    );
    assert!(
        specs
            .iter()
            .all(|spec| spec.input_schema.as_str().trim_start().starts_with('{'))
    );
}

/// A call gives the tool's answer.
pub async fn a_tool_answers(under_test: ToolsetUnderTest) {
    let output = under_test
        .call(&under_test.echo, r#"{"text":"Hello 日本"}"#)
        .await
        .unwrap();
    assert!(output.0.as_str().contains("Hello 日本"), "{output:?}");
}

/// A failure comes as an answer for the agent.
pub async fn a_failing_tool_says_so(under_test: ToolsetUnderTest) {
    assert_eq!(
        under_test.refused(&under_test.failing, "{}").await,
        ToolErrorKind::Failed
    );
}

/// A tool that is not there is refused.
pub async fn an_unknown_tool_is_refused(under_test: ToolsetUnderTest) {
    assert_eq!(
        under_test.refused("no_such_tool", "{}").await,
        ToolErrorKind::UnknownTool
    );
}

/// Arguments that are not an object are refused before the tool sees them.
pub async fn arguments_are_objects(under_test: ToolsetUnderTest) {
    for nonsense in [r#""{\"text\":""#, "[]", "7", "null"] {
        assert_eq!(
            under_test.refused(&under_test.echo, nonsense).await,
            ToolErrorKind::InvalidArguments
        );
    }
}

/// Calls at the same time get each its own answer.
pub async fn calls_do_not_mix(under_test: ToolsetUnderTest) {
    let arguments: Vec<_> = (0..16)
        .map(|n| format!(r#"{{"text":"call {n}."}}"#))
        .collect();
    let calls = arguments
        .iter()
        .map(|arguments| under_test.call(&under_test.echo, arguments));
    for (n, output) in futures_util::future::join_all(calls)
        .await
        .into_iter()
        .enumerate()
    {
        let output = output.unwrap();
        assert!(
            output.0.as_str().contains(&format!("call {n}.")),
            "{output:?}"
        );
    }
}
