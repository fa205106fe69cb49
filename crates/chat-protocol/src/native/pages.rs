//! Pages of lists. Each request type decodes a query, makes the domain's page, and encodes its
//! entries.
//!
//! The domain's page has one entry more, which shows whether another page follows.

use chat_domain::{
    Conversation, ConversationCursor, ConversationId, ConversationPage, LoggedTurn, Ordinal,
    PageOrder, Position, Timestamp, ToolCallPage, ToolCallRecord, TurnPage,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cursor::{List, read_conversation, read_place, write_conversation, write_place};
use crate::native::messages::{MessageObject, messages};
use crate::native::query::{Query, invalid_parameter};
use crate::native::tool_calls::RecordedToolCall;
use crate::native::turns::ConversationObject;
use crate::page_size::entries_that_fit;
use crate::problem::Problem;

/// A page of a user's conversations.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationList {
    /// In the order of their last activity, the newest first.
    pub conversations: Vec<ConversationObject>,
    /// The `cursor` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A request for a page of a user's conversations.
#[derive(Clone, Copy, Debug)]
pub struct ConversationPageRequest {
    limit: u32,
    after: Option<(Timestamp, ConversationId)>,
}

impl ConversationPageRequest {
    /// The largest `limit`.
    pub const MAX_LIMIT: u32 = 100;

    /// Decodes `limit` and `cursor`.
    ///
    /// # Errors
    /// `invalid_request`, `invalid_cursor`.
    pub fn decode(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            limit: query.limit(20, Self::MAX_LIMIT)?,
            after: query.cursor("cursor", read_conversation)?,
        })
    }

    /// The domain's page.
    pub fn page(&self) -> ConversationPage {
        let after = self
            .after
            .map(|(updated_at, id)| ConversationCursor { updated_at, id });
        ConversationPage::last_active(after, self.limit + 1)
    }

    /// Encodes the entries of the domain's page.
    pub fn encode(&self, mut found: Vec<Conversation>) -> ConversationList {
        let has_more = truncate(&mut found, self.limit);
        let next_cursor = found
            .last()
            .filter(|_| has_more)
            .map(|last| write_conversation(last.updated_at, last.id));
        ConversationList {
            conversations: found.iter().map(ConversationObject::from).collect(),
            next_cursor,
        }
    }
}

/// A page of a conversation's tool calls.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolCallList {
    /// In the order in which they were recorded, including those of superseded turns.
    pub tool_calls: Vec<RecordedToolCall>,
    /// The `cursor` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A request for a page of a conversation's tool calls.
#[derive(Clone, Copy, Debug)]
pub struct ToolCallPageRequest {
    conversation: ConversationId,
    limit: u32,
    after: Position,
}

impl ToolCallPageRequest {
    /// The largest `limit`.
    pub const MAX_LIMIT: u32 = 200;

    /// Decodes `limit` and `cursor`.
    ///
    /// # Errors
    /// `invalid_request`, `invalid_cursor`.
    pub fn decode(conversation: ConversationId, query: &Query) -> Result<Self, Problem> {
        let after = query.cursor("cursor", |text| {
            read_place(List::ToolCalls, conversation, text)
        })?;
        Ok(Self {
            conversation,
            limit: query.limit(50, Self::MAX_LIMIT)?,
            after: after.map_or(Position::START, Position),
        })
    }

    /// The domain's page.
    pub fn page(&self) -> ToolCallPage {
        ToolCallPage {
            after: self.after,
            limit: self.limit + 1,
        }
    }

    /// Encodes the entries of the domain's page.
    pub fn encode(&self, mut found: Vec<ToolCallRecord>) -> ToolCallList {
        let mut has_more = truncate(&mut found, self.limit);
        let mut tool_calls: Vec<_> = found.iter().map(RecordedToolCall::from).collect();
        let fit = entries_that_fit(tool_calls.iter());
        has_more |= fit < tool_calls.len();
        tool_calls.truncate(fit);
        let last = found
            .get(tool_calls.len().wrapping_sub(1))
            .filter(|_| has_more);
        let next_cursor =
            last.map(|last| write_place(List::ToolCalls, self.conversation, last.position.0));
        ToolCallList {
            tool_calls,
            next_cursor,
        }
    }
}

/// A page of a conversation's messages.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageList {
    /// In chronological order.
    pub messages: Vec<MessageObject>,
    /// The `before` of the page of earlier messages; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_cursor: Option<String>,
    /// The `after` of the page of later messages; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A request for a page of a conversation's messages.
///
/// The place of a user message is twice its turn's ordinal; of an assistant message, one more.
#[derive(Clone, Copy, Debug)]
pub struct MessagePageRequest {
    conversation: ConversationId,
    limit: u32,
    position: PagePosition,
    superseded: bool,
}

/// The position of a page of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PagePosition {
    /// The newest messages.
    Newest,
    /// The messages before a place.
    Before(u64),
    /// The messages after a place.
    After(u64),
}

impl MessagePageRequest {
    /// The largest `limit`.
    pub const MAX_LIMIT: u32 = 200;

    /// Decodes `limit`, `before`, `after` and `superseded`.
    ///
    /// # Errors
    /// `invalid_request`, `invalid_cursor`.
    pub fn decode(conversation: ConversationId, query: &Query) -> Result<Self, Problem> {
        let place =
            |name| query.cursor(name, |text| read_place(List::Messages, conversation, text));
        let position = match (place("before")?, place("after")?) {
            (None, None) => PagePosition::Newest,
            (Some(place), None) => PagePosition::Before(place),
            (None, Some(place)) => PagePosition::After(place),
            (Some(_), Some(_)) => {
                return Err(invalid_parameter(
                    "after",
                    "`before` and `after` exclude each other".to_owned(),
                ));
            }
        };
        Ok(Self {
            conversation,
            limit: query.limit(50, Self::MAX_LIMIT)?,
            position,
            superseded: query.superseded()?,
        })
    }

    /// The domain's page: as many turns as messages, because a turn has at least one message.
    pub fn page(&self) -> TurnPage {
        let page = TurnPage {
            after: None,
            before: None,
            limit: self.limit + 1,
            order: PageOrder::NewestFirst,
            includes_superseded: self.superseded,
        };
        match self.position {
            PagePosition::Newest => page,
            // The turn of the assistant's message at this place also has the user's message before
            // it.
            PagePosition::Before(place) => TurnPage {
                before: Some(Ordinal(place.div_ceil(2))),
                ..page
            },
            // The turn of the user's message at this place also has the assistant's message after
            // it, or nothing more.
            PagePosition::After(place) => TurnPage {
                after: Some(Ordinal(place.div_ceil(2).saturating_sub(1))),
                limit: self.limit + 2,
                order: PageOrder::OldestFirst,
                ..page
            },
        }
    }

    /// Encodes the entries of the domain's page.
    pub fn encode(&self, found: &[LoggedTurn]) -> MessageList {
        let placed = |log: &LoggedTurn| {
            let first = log.turn.ordinal.0.saturating_mul(2);
            let [user, assistant] = messages(log);
            [
                user.map(|message| (first, message)),
                assistant.map(|message| (first.saturating_add(1), message)),
            ]
        };
        let is_in_page = |place: u64| match self.position {
            PagePosition::Newest => true,
            PagePosition::Before(end) => place < end,
            PagePosition::After(start) => place > start,
        };
        let mut found: Vec<_> = found
            .iter()
            .flat_map(placed)
            .flatten()
            .filter(|(place, _)| is_in_page(*place))
            .collect();
        let entries = found.iter().map(|(_, message)| message);
        let fit = match self.position {
            PagePosition::After(_) => entries_that_fit(entries),
            PagePosition::Newest | PagePosition::Before(_) => entries_that_fit(entries.rev()),
        };
        let limit = fit.min(self.limit as usize);
        let has_more = found.len() > limit;
        let (earlier, later) = match self.position {
            PagePosition::Newest => (has_more, false),
            PagePosition::Before(_) => (has_more, true),
            PagePosition::After(_) => (true, has_more),
        };
        match self.position {
            PagePosition::After(_) => found.truncate(limit),
            PagePosition::Newest | PagePosition::Before(_) => {
                drop(found.drain(..found.len().saturating_sub(limit)))
            }
        }
        let cursor = |entry: Option<&(u64, MessageObject)>| {
            entry.map(|(place, _)| write_place(List::Messages, self.conversation, *place))
        };
        let previous_cursor = cursor(found.first()).filter(|_| earlier);
        let next_cursor = cursor(found.last()).filter(|_| later);
        MessageList {
            messages: found.into_iter().map(|(_, message)| message).collect(),
            previous_cursor,
            next_cursor,
        }
    }
}

/// Truncates a list to a page. Returns whether entries were removed.
fn truncate<T>(found: &mut Vec<T>, limit: u32) -> bool {
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    has_more
}
