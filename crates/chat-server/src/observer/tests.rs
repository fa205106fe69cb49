use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use chat_domain::testing::{FakeTools, FixedEnvironment, MemoryStore, Script, ScriptedAgent};
use chat_domain::{
    ChatService, ChatServiceConfig, RawJson, StartTurn, ToolOutput, TurnLimits, UserId,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::*;

#[derive(Debug, thiserror::Error)]
enum Layered {
    #[error("the disk is full")]
    Cause,
    #[error("cannot write: {0}")]
    Quoting(#[source] Box<Self>),
    #[error("the store failed")]
    Plain(#[source] Box<Self>),
}

#[test]
fn a_cause_is_written_once() {
    use Layered::{Cause, Plain, Quoting};
    let quoting = || Quoting(Box::new(Cause));
    assert_eq!(chain(&Cause), "the disk is full");
    assert_eq!(chain(&quoting()), "cannot write: the disk is full");
    assert_eq!(
        chain(&Plain(Box::new(quoting()))),
        "the store failed: cannot write: the disk is full"
    );
    assert_eq!(
        chain(&Plain(Box::new(Plain(Box::new(Cause))))),
        "the store failed: the disk is full"
    );
}

/// The fields of a span or an event.
#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").unwrap();
        self.0
            .insert(field.name(), text.trim_matches('"').to_owned());
    }
}

/// A log line, and the names and fields of its spans from the outermost to the innermost.
#[derive(Clone, Debug)]
struct Line {
    fields: Fields,
    spans: Vec<(&'static str, Fields)>,
}

impl Line {
    fn names(&self) -> Vec<&'static str> {
        self.spans.iter().map(|(name, _)| *name).collect()
    }

    fn span_field(&self, span: &str, field: &str) -> &str {
        let (_, fields) = self.spans.iter().find(|(name, _)| *name == span).unwrap();
        &fields.0[field]
    }
}

/// Records log lines.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Line>>>);

impl Recorder {
    fn line(&self, message: &str) -> Line {
        let lines = self.0.lock().unwrap();
        let found = lines
            .iter()
            .find(|line| line.fields.0["message"] == message);
        found
            .unwrap_or_else(|| panic!("no {message:?} in {lines:#?}"))
            .clone()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .map(|span| {
                (
                    span.name(),
                    span.extensions().get::<Fields>().unwrap().clone(),
                )
            })
            .collect();
        self.0.lock().unwrap().push(Line { fields, spans });
    }
}

/// Runs a turn with one tool call. Agent and tool each write a log line.
async fn run_turn() -> String {
    let agent = ScriptedAgent::answering(|request| {
        info!("in the agent");
        if request.transcript.0.len() == 1 {
            vec![Script::call("add_task", "{}")]
        } else {
            vec![Script::text("Added.")]
        }
    });
    let tools = FakeTools::new().with("add_task", false, |_| {
        Box::pin(async {
            info!("in the tool");
            Ok(ToolOutput(RawJson::from_valid("{}")))
        })
    });
    let service = ChatService::open(ChatServiceConfig {
        store: Arc::new(MemoryStore::new()),
        agent: Arc::new(agent),
        tools: Arc::new(tools),
        environment: Arc::new(FixedEnvironment::new()),
        observer: Arc::new(LogObserver),
        limits: TurnLimits::default(),
    })
    .await
    .unwrap();
    let message = StartTurn::new(UserId::new("ada").unwrap(), "Hi");
    service.send(message).await.unwrap().turn.id.to_string()
}

#[test]
fn lines_of_a_turn_are_in_its_spans_with_standard_fields() {
    let recorder = Recorder::default();
    let subscriber = tracing_subscriber::registry().with(recorder.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let turn = tracing::subscriber::with_default(subscriber, || runtime.block_on(run_turn()));

    let started = recorder.line("turn started");
    assert_eq!(started.names(), ["turn"]);
    for field in [
        "turn_id",
        "conversation_id",
        "user_id",
        "worker_id",
        "attempt",
    ] {
        let value = started.span_field("turn", field);
        assert_eq!(started.fields.0[field], value, "{field}");
    }
    assert_eq!(started.span_field("turn", "turn_id"), turn);
    assert_eq!(started.span_field("turn", "user_id"), "ada");

    let in_agent = recorder.line("in the agent");
    assert_eq!(in_agent.names(), ["turn", "step"]);
    assert_eq!(in_agent.span_field("step", "turn_id"), turn);

    let (in_tool, called) = (recorder.line("in the tool"), recorder.line("tool called"));
    assert_eq!(in_tool.names(), ["turn", "tool_call"]);
    assert_eq!(in_tool.span_field("tool_call", "turn_id"), turn);
    assert_eq!(in_tool.span_field("tool_call", "tool"), "add_task");
    assert_eq!(
        called.fields.0["tool_call_id"],
        in_tool.span_field("tool_call", "tool_call_id")
    );
    for line in [called, recorder.line("turn ended")] {
        assert_eq!(line.fields.0["turn_id"], turn);
        assert!(line.fields.0.contains_key("elapsed_ms"), "{line:?}");
    }
}
