//! Reads the pages of a reply's text.

use std::collections::HashMap;

use chat_domain::{
    Item, ItemBody, LoggedTurn, MessageId, Ordinal, PageOrder, Turn, TurnPage, UserId,
};
use chat_protocol::Code;
use chat_protocol::native::ReplyScope;
use chat_protocol::native::reply::{END, append_messages, begin};

use crate::problem::ApiError;
use crate::service_runner::missing_turn_as_conversation;
use crate::state::AppState;

/// A page ends with the turn that reaches this size, in bytes.
const PAGE_BYTES: usize = 64 << 10;

/// How many turns the first page reads, and any page at most.
const FIRST_TURNS: u32 = 4;
const MAX_TURNS: u32 = 128;

/// A place in the text of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The last turn before the place; `None` at the start.
    after: Option<Ordinal>,
    /// Whether a message comes before the place.
    has_messages: bool,
}

impl Place {
    /// The start of the text.
    pub const START: Self = Self {
        after: None,
        has_messages: false,
    };
}

/// A part of the text.
pub struct Page {
    /// Where the page begins.
    pub place: Place,
    /// How many turns were read for the page and are in it.
    pub turns: u32,
    /// The text.
    pub text: String,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Place>,
}

/// Which of the conversation's turns a reply leaves out.
enum Hidden {
    /// None: the reply is to a superseded turn.
    Nothing,
    /// Those that are superseded now, because none was since the reply's turn ended.
    SupersededNow,
    /// Those that are superseded now and lie in one of these ranges: others were superseded since.
    Ranges(Vec<(Ordinal, Ordinal)>),
}

impl Hidden {
    fn hides(&self, turn: &Turn) -> bool {
        turn.superseded
            && match self {
                Self::Nothing => false,
                Self::SupersededNow => true,
                Self::Ranges(ranges) => ranges
                    .iter()
                    .any(|(from, to)| (*from..*to).contains(&turn.ordinal)),
            }
    }
}

/// Reads the pages of the reply to one turn.
pub struct PageReader {
    state: AppState,
    owner: UserId,
    scope: ReplyScope,
    turn: Turn,
    /// The user's message of the turn.
    question: MessageId,
    /// The items of the turn, until the first page has been read.
    items: Option<Vec<Item>>,
    /// Decided with the first page.
    hidden: Option<Hidden>,
    /// How many turns the next page reads.
    turns: u32,
}

impl PageReader {
    /// Reads the reply to an ended turn with these items.
    ///
    /// # Errors
    /// `internal` if the turn has no message.
    pub fn new(
        state: &AppState,
        owner: UserId,
        scope: ReplyScope,
        turn: Turn,
        items: Vec<Item>,
    ) -> Result<Self, ApiError> {
        let question = items.iter().find_map(|item| match &item.body {
            ItemBody::Message(message) => Some(message.id),
            _ => None,
        });
        Ok(Self {
            state: state.clone(),
            owner,
            scope,
            turn,
            question: question.ok_or(Code::Internal)?,
            items: Some(items),
            hidden: None,
            turns: FIRST_TURNS,
        })
    }

    /// Reads the page at a place. `repeated_turns` is the number of turns of a page that is read
    /// again.
    ///
    /// # Errors
    /// The problem of a turn that failed; the store's.
    pub async fn read(
        &mut self,
        place: Place,
        repeated_turns: Option<u32>,
    ) -> Result<Page, ApiError> {
        let reads = self.state.page_reads.clone();
        let _permit = reads.acquire().await.map_err(|_| Code::Internal)?;
        let mut text = String::new();
        if place.after.is_none() {
            let (turn, items) = (self.turn.clone(), self.items().await?);
            if self.scope == ReplyScope::Turn {
                text = begin(turn.clone(), items.clone())?;
                append_messages(&mut text, true, &LoggedTurn { turn, items })?;
                text.push_str(END);
                return Ok(Page {
                    place,
                    turns: 0,
                    text,
                    next: None,
                });
            }
            text = begin(turn, items)?;
        }
        let limit = repeated_turns.unwrap_or(self.turns);
        let logs = self.read_turns(place.after, limit).await?;
        let is_last_read = u32::try_from(logs.len()).is_ok_and(|read| read < limit);
        self.decide_hidden(place.after, &logs).await?;
        let (mut last, mut has_messages, mut turns) = (place.after, place.has_messages, 0);
        let mut is_cut = false;
        for log in logs {
            if repeated_turns.is_none() && turns > 0 && text.len() >= PAGE_BYTES {
                is_cut = true;
                break;
            }
            (last, turns) = (Some(log.turn.ordinal), turns + 1);
            if let Some(log) = self.shown(log) {
                append_messages(&mut text, !has_messages, &log)?;
                has_messages = true;
            }
        }
        let is_end = !is_cut && (is_last_read || last == Some(self.turn.ordinal));
        if is_end {
            text.push_str(END);
        }
        self.turns = match (is_cut, text.len() < PAGE_BYTES / 2) {
            (true, _) => turns,
            (false, true) => (limit * 2).min(MAX_TURNS),
            (false, false) => limit,
        };
        Ok(Page {
            place,
            turns,
            text,
            next: (!is_end).then_some(Place {
                after: last,
                has_messages,
            }),
        })
    }

    /// A turn as the reply has it; `None` if the reply leaves it out.
    fn shown(&self, mut log: LoggedTurn) -> Option<LoggedTurn> {
        let hidden = self.hidden.as_ref();
        if log.turn.id != self.turn.id && hidden.is_some_and(|hidden| hidden.hides(&log.turn)) {
            return None;
        }
        if !matches!(hidden, Some(Hidden::Nothing)) {
            log.turn.superseded = false;
        }
        Some(log)
    }

    /// Decides which turns are hidden, once `logs` have been read.
    async fn decide_hidden(
        &mut self,
        after: Option<Ordinal>,
        logs: &[LoggedTurn],
    ) -> Result<(), ApiError> {
        let needs_decision = match &self.hidden {
            None => true,
            // A retry that supersedes any turn of the reply after its own turn has ended supersedes
            // that turn too.
            Some(Hidden::SupersededNow) => logs
                .iter()
                .any(|log| log.turn.superseded && log.turn.id != self.turn.id),
            Some(_) => false,
        };
        if !needs_decision {
            return Ok(());
        }
        let is_superseded = match logs.iter().find(|log| log.turn.id == self.turn.id) {
            Some(log) => log.turn.superseded,
            None => {
                let (owner, conversation, question) =
                    (self.owner.clone(), self.turn.conversation, self.question);
                let turn = self.state.runner.call(move |service| async move {
                    service
                        .turn_of_message(&owner, conversation, question)
                        .await
                        .map_err(missing_turn_as_conversation)
                });
                turn.await?.superseded
            }
        };
        self.hidden = Some(match (&self.hidden, is_superseded) {
            (_, false) => Hidden::SupersededNow,
            (None, true) => Hidden::Nothing,
            (Some(_), true) => Hidden::Ranges(self.superseded_ranges(after).await?),
        });
        Ok(())
    }

    /// The turns after a place that the retries up to the reply's turn superseded: from the retried
    /// turn up to the retry.
    async fn superseded_ranges(
        &self,
        mut after: Option<Ordinal>,
    ) -> Result<Vec<(Ordinal, Ordinal)>, ApiError> {
        let (mut ordinals, mut retries) = (HashMap::new(), Vec::new());
        loop {
            let logs = self.read_turns(after, FIRST_TURNS).await?;
            let Some(last) = logs.last() else { break };
            after = Some(last.turn.ordinal);
            for log in &logs {
                ordinals.insert(log.turn.id, log.turn.ordinal);
                retries.extend(log.turn.retry_of.map(|retried| (retried, log.turn.ordinal)));
            }
        }
        // A retried turn that was not read lies before the place.
        let range = |(retried, to)| (ordinals.get(&retried).copied().unwrap_or(Ordinal(0)), to);
        Ok(retries.into_iter().map(range).collect())
    }

    async fn items(&mut self) -> Result<Vec<Item>, ApiError> {
        if let Some(items) = self.items.take() {
            return Ok(items);
        }
        let (owner, id) = (self.owner.clone(), self.turn.id);
        let view = self.state.runner.call(move |service| async move {
            service
                .turn(&owner, id)
                .await
                .map_err(missing_turn_as_conversation)
        });
        Ok(view.await?.items)
    }

    async fn read_turns(
        &self,
        after: Option<Ordinal>,
        limit: u32,
    ) -> Result<Vec<LoggedTurn>, ApiError> {
        let (owner, conversation) = (self.owner.clone(), self.turn.conversation);
        let page = TurnPage {
            after,
            before: Some(Ordinal(self.turn.ordinal.0 + 1)),
            limit,
            order: PageOrder::OldestFirst,
            includes_superseded: true,
        };
        let turns = self
            .state
            .runner
            .call(move |service| async move { service.turns(&owner, conversation, page).await });
        Ok(turns.await?)
    }
}
