//! Pages of lists. A cursor is the id of the last object of the previous page, as ChatKit's front
//! end expects.

use chat_domain::{
    Conversation, ConversationId, ConversationOrder, ConversationPage, LoggedTurn, Ordinal,
    PageOrder, Turn, TurnPage,
};

use serde::Serialize;

use super::ids::{ItemId, ThreadId};
use super::items::{Page, Thread, ThreadItem, items};
use crate::page_size::entries_that_fit;

/// The default size of a page.
const DEFAULT_LIMIT: u32 = 20;
/// The largest page. The front end requests 9,999 objects and continues while there are more.
pub const MAX_LIMIT: u32 = 100;

/// The size and the order of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageExtent {
    limit: u32,
    order: PageOrder,
}

impl PageExtent {
    /// At most `limit` objects; 0 means the default.
    pub(super) fn new(limit: Option<u32>, order: PageOrder) -> Self {
        let limit = limit
            .filter(|limit| *limit > 0)
            .unwrap_or(DEFAULT_LIMIT)
            .min(MAX_LIMIT);
        Self { limit, order }
    }
}

/// A request for a page of a user's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPageRequest {
    pub(super) extent: PageExtent,
    pub(super) after: Option<ConversationId>,
}

impl ThreadPageRequest {
    /// The domain's page. It has one entry more, which shows whether another page follows.
    pub fn page(&self) -> ConversationPage {
        let PageExtent { limit, order } = self.extent;
        ConversationPage {
            order: ConversationOrder::Created {
                after: self.after,
                order,
            },
            limit: limit + 1,
        }
    }

    /// Encodes the entries of the domain's page.
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
    /// The item before the page.
    pub after: Option<ItemId>,
    pub(super) extent: PageExtent,
}

impl ItemPageRequest {
    /// The first page of a thread, which is part of the thread itself.
    pub fn first(conversation: ConversationId) -> Self {
        Self {
            conversation,
            after: None,
            extent: PageExtent::new(None, PageOrder::OldestFirst),
        }
    }

    /// The domain's page. `turn_of_cursor` is the turn of the item in `after`.
    ///
    /// As many turns as items, because a turn has at least one item; one turn more, which shows
    /// whether another page follows; and the turn of the cursor, which may have no further item.
    pub fn page(&self, turn_of_cursor: Option<&Turn>) -> TurnPage {
        let PageExtent { limit, order } = self.extent;
        let page = TurnPage {
            limit: limit + 2,
            order,
            ..TurnPage::ALL
        };
        match turn_of_cursor.map(|turn| turn.ordinal.0) {
            None => page,
            Some(ordinal) if order == PageOrder::NewestFirst => TurnPage {
                before: Some(Ordinal(ordinal.saturating_add(1))),
                ..page
            },
            Some(ordinal) => TurnPage {
                after: Some(Ordinal(ordinal.saturating_sub(1))),
                ..page
            },
        }
    }

    /// Encodes the entries of the domain's page.
    pub fn encode(&self, found: &[LoggedTurn]) -> Page<ThreadItem> {
        let mut all: Vec<_> = found.iter().flat_map(items).collect();
        if self.extent.order == PageOrder::NewestFirst {
            all.reverse();
        }
        // A missing item belonged to a turn that was superseded since: all items here follow it.
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

/// A page of the first of `objects`, each with its id.
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
