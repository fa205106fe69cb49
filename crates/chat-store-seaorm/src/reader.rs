//! Reads.

use std::time::Duration;

use chat_domain::{
    Conversation, ConversationCursor, ConversationId, ConversationOrder, ConversationPage,
    ItemBody, LoggedTurn, PageOrder, Position, StoreError, ToolCallPage, ToolCallRecord, TurnPage,
    TurnRef, TurnView, UserId,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::db::Db;
use crate::error::StoreFault;
use crate::history;
use crate::job::CommandError;
use crate::rows::{self, CALL_COLUMNS};
use crate::sql::{Row, Sql, big};

/// The way for reads to the database.
#[derive(Clone)]
pub(crate) struct Reader {
    source: Backend,
    runtime: Handle,
    timeout: Duration,
}

impl Reader {
    pub(crate) fn new(source: Backend, timeout: Duration) -> Self {
        Self {
            source,
            runtime: Handle::current(),
            timeout,
        }
    }

    /// Runs a read in a task of its own: a caller that goes away in the middle leaves no connection
    /// in an unknown state. It is run again if its connection turns out to be broken.
    pub(crate) async fn run<T, F>(
        &self,
        read: impl Fn(Db) -> F + Send + Sync + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CommandError>> + Send + 'static,
    {
        let source = self.source.clone();
        let work = async move {
            match read(source.reader().await?).await {
                Err(CommandError::StoreFault(fault)) if fault.is_passing() => {
                    read(source.reader().await?).await
                }
                done => done,
            }
        };
        match self.runtime.spawn(timeout(self.timeout, work)).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(CommandError::Refused(refusal)))) => Err(refusal.into()),
            Ok(Ok(Err(CommandError::StoreFault(fault)))) => Err(self.source.explain(fault).into()),
            Ok(Err(_)) => Err(StoreFault::TimedOut.into()),
            Err(stopped) => {
                Err(StoreFault::InvariantViolation(format!("a read stopped: {stopped}")).into())
            }
        }
    }
}

pub(crate) async fn conversations(
    db: Db,
    owner: UserId,
    page: ConversationPage,
) -> Result<Vec<Conversation>, CommandError> {
    let mut query = Sql::new("SELECT ")
        .push(rows::CONVERSATION)
        .push(" FROM conversations WHERE owner = ")
        .bind(owner.as_str());
    let (only_after, order) = match page.order {
        ConversationOrder::LastActivity { after } => {
            if let Some(ConversationCursor { updated_at, id }) = after {
                query = query.push(" AND (updated_at, id) < (").bind(updated_at.0);
                query = query.push(", ").bind(id.0).push(")");
            }
            (None, " ORDER BY updated_at DESC, id DESC")
        }
        ConversationOrder::Created { after, order } => match order {
            PageOrder::OldestFirst => (after.map(|id| (" AND id > ", id)), " ORDER BY id"),
            PageOrder::NewestFirst => (after.map(|id| (" AND id < ", id)), " ORDER BY id DESC"),
        },
    };
    if let Some((condition, id)) = only_after {
        query = query.push(condition).bind(id.0);
    }
    let found = query.push(order).limit(page.limit).all(&db).await?;
    Ok(found
        .iter()
        .map(|row| rows::conversation(Row::new("conversations", 0, row)))
        .collect::<Result<_, _>>()?)
}

pub(crate) async fn conversation(
    db: Db,
    owner: UserId,
    id: ConversationId,
) -> Result<Option<Conversation>, CommandError> {
    let query = Sql::new("SELECT ")
        .push(rows::CONVERSATION)
        .push(" FROM conversations WHERE id = ")
        .bind(id.0);
    let found = query
        .push(" AND owner = ")
        .bind(owner.as_str())
        .all(&db)
        .await?;
    let row = found.first().map(|row| Row::new("conversations", 0, row));
    Ok(row.map(rows::conversation).transpose()?)
}

pub(crate) async fn turns(
    db: Db,
    owner: UserId,
    id: ConversationId,
    page: TurnPage,
) -> Result<Option<Vec<LoggedTurn>>, CommandError> {
    let mut wanted = Sql::new("t.conversation_id = ")
        .bind(id.0)
        .push(" AND t.owner = ")
        .bind(owner.as_str());
    if let Some(after) = page.after {
        wanted = wanted.push(" AND t.ordinal > ").bind(big(after.0));
    }
    if let Some(before) = page.before {
        wanted = wanted.push(" AND t.ordinal < ").bind(big(before.0));
    }
    if !page.superseded {
        wanted = wanted.push(" AND NOT t.superseded");
    }
    if page.limit < u32::MAX {
        wanted = wanted
            .push(if page.newest {
                " ORDER BY t.ordinal DESC"
            } else {
                " ORDER BY t.ordinal"
            })
            .limit(page.limit);
    }
    let views = history::read(&db, wanted, Position::START).await?;
    if views.is_empty() && conversation(db, owner, id).await?.is_none() {
        return Ok(None);
    }
    let logged = |TurnView { turn, items, .. }| LoggedTurn { turn, items };
    Ok(Some(views.into_iter().map(logged).collect()))
}

pub(crate) async fn turn(
    db: Db,
    owner: UserId,
    turn: TurnRef,
    after: Position,
) -> Result<Option<TurnView>, CommandError> {
    let wanted = match turn {
        TurnRef::Id(id) => Sql::new("t.id = ").bind(id.0),
        TurnRef::Message(conversation, message) => {
            let of_message = Sql::new("t.id = (SELECT m.turn_id FROM messages m WHERE m.id = ")
                .bind(message.0)
                .push(") AND t.conversation_id = ");
            of_message.bind(conversation.0)
        }
    };
    let wanted = wanted.push(" AND t.owner = ").bind(owner.as_str());
    let views = history::read(&db, wanted, after).await?;
    Ok(views.into_iter().next())
}

pub(crate) async fn tool_calls(
    db: Db,
    owner: UserId,
    id: ConversationId,
    page: ToolCallPage,
) -> Result<Option<Vec<ToolCallRecord>>, CommandError> {
    let found = Sql::new("SELECT ")
        .push(rows::CALL)
        .push(", t.superseded FROM tool_calls k JOIN turns t ON t.id = k.turn_id WHERE k.conversation_id = ")
        .bind(id.0)
        .push(" AND t.owner = ")
        .bind(owner.as_str())
        .push(" AND k.position > ")
        .bind(big(page.after.0))
        .push(" ORDER BY k.position")
        .limit(page.limit)
        .all(&db)
        .await?;
    if found.is_empty() && conversation(db, owner, id).await?.is_none() {
        return Ok(None);
    }
    let mut records = Vec::new();
    for row in &found {
        let row = Row::new("tool_calls", 0, row);
        let call = rows::call(row, 0)?;
        let result = rows::result(row, 0)?.and_then(|item| {
            if let ItemBody::ToolResult(result) = item.body {
                Some(result)
            } else {
                None
            }
        });
        if let ItemBody::ToolCall(body) = call.body {
            let superseded = row.get(CALL_COLUMNS, "superseded")?;
            records.push(ToolCallRecord {
                position: call.position,
                turn: call.turn,
                superseded,
                at: call.at,
                call: body,
                result,
            });
        }
    }
    Ok(Some(records))
}
