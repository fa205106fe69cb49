//! Lists, page by page. A cursor is the id of the last object of the page before, as ChatKit's
//! front end wants it.

use chat_domain::{
    Conversation, ConversationId, ConversationOrder, ConversationPage, LoggedTurn, Ordinal,
    PageOrder, Turn, TurnPage,
};

use serde::Serialize;

use super::ids::{ItemId, ThreadId};
use super::items::{Page, Thread, ThreadItem, items};
use crate::page_size::entries_that_fit;

/// The size of a page if the client does not say.
const DEFAULT_LIMIT: u32 = 20;
/// The largest page. The front end asks for 9,999 and continues as long as there is more.
pub const MAX_LIMIT: u32 = 100;

/// How much of a list, and from which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageExtent {
    limit: u32,
    newest_first: bool,
}

impl PageExtent {
    /// At most `limit` objects; 0 means the usual number.
    pub(super) fn new(limit: Option<u32>, newest_first: bool) -> Self {
        let limit = limit
            .filter(|limit| *limit > 0)
            .unwrap_or(DEFAULT_LIMIT)
            .min(MAX_LIMIT);
        Self {
            limit,
            newest_first,
        }
    }
}

/// A request for a page of a user's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPageRequest {
    pub(super) extent: PageExtent,
    pub(super) after: Option<ConversationId>,
}

impl ThreadPageRequest {
    /// The page to read: one more than is sent, to know whether another page follows.
    pub fn page(&self) -> ConversationPage {
        let order = if self.extent.newest_first {
            PageOrder::NewestFirst
        } else {
            PageOrder::OldestFirst
        };
        ConversationPage {
            order: ConversationOrder::Created {
                after: self.after,
                order,
            },
            limit: self.extent.limit + 1,
        }
    }

    /// The answer.
    pub fn encode(&self, found: &[Conversation]) -> Page<Thread> {
        let threads = found.iter().map(|conversation| {
            (
                ThreadId(conversation.id).to_string(),
                Thread::from(conversation),
            )
        });
        page(threads, self.extent.limit)
    }
}

/// A request for a page of a thread's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemPageRequest {
    /// The conversation.
    pub conversation: ConversationId,
    /// The item that the page begins behind.
    pub after: Option<ItemId>,
    pub(super) extent: PageExtent,
}

impl ItemPageRequest {
    /// The first page of a thread, as it comes with the thread itself.
    pub fn first(conversation: ConversationId) -> Self {
        Self {
            conversation,
            after: None,
            extent: PageExtent::new(None, false),
        }
    }

    /// The page to read. `of` is the turn of the item in `after`.
    ///
    /// As many turns as there may be items, for a turn has at least one, one more to know whether
    /// another page follows, and the turn of the cursor, which may have nothing more.
    pub fn page(&self, of: Option<&Turn>) -> TurnPage {
        let PageExtent {
            limit,
            newest_first,
        } = self.extent;
        let page = TurnPage {
            limit: limit + 2,
            newest: newest_first,
            ..TurnPage::ALL
        };
        match of.map(|turn| turn.ordinal.0) {
            None => page,
            Some(ordinal) if newest_first => TurnPage {
                before: Some(Ordinal(ordinal.saturating_add(1))),
                ..page
            },
            Some(ordinal) => TurnPage {
                after: Some(Ordinal(ordinal.saturating_sub(1))),
                ..page
            },
        }
    }

    /// The answer.
    pub fn encode(&self, found: &[LoggedTurn]) -> Page<ThreadItem> {
        let mut all: Vec<_> = found.iter().flat_map(items).collect();
        if self.extent.newest_first {
            all.reverse();
        }
        // An item that is not there any more belonged to a turn that was superseded: all that is
        // here comes behind it.
        let known = all
            .iter()
            .position(|item| Some(item.id) == self.after)
            .map_or(0, |place| place + 1);
        page(
            all.into_iter()
                .skip(known)
                .map(|item| (item.id.to_string(), item)),
            self.extent.limit,
        )
    }
}

/// The first of some objects, each with its id, as many as fit on a page.
fn page<T: Serialize>(objects: impl Iterator<Item = (String, T)>, limit: u32) -> Page<T> {
    let mut objects: Vec<_> = objects.collect();
    let limit = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .min(entries_that_fit(objects.iter().map(|(_, object)| object)));
    let has_more = objects.len() > limit;
    objects.truncate(limit);
    let after = objects
        .last()
        .map(|(id, _)| id.clone())
        .filter(|_| has_more);
    Page {
        data: objects.into_iter().map(|(_, object)| object).collect(),
        has_more,
        after,
    }
}
