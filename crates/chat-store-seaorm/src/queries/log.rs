//! Turns with their items, from the tables `turns`, `messages` and `tool_calls`.

use std::collections::HashMap;

use chat_domain::{
    ConversationId, Item, ItemBody, LoggedTurn, PageOrder, Position, ToolCallPage, ToolCallRecord,
    TurnId, TurnPage, TurnRef, TurnView, UserId,
};
use sea_orm::QueryResult;

use super::{conversations, messages, tool_calls, turns};
use crate::batch::CommandError;
use crate::columns::{Columns, MESSAGE, TOOL_CALL, TURN, TURN_WITH_DRAFT, column};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::row::Row;
use crate::sql::{Sql, Value, big};

/// Turns with their items after a position: one statement, so one snapshot and one round trip,
/// whatever their number. `{which}` is one of the conditions below.
const TURNS: &str = "
    WITH page AS (SELECT {turn} FROM turns t WHERE {which})
    SELECT * FROM page
    UNION ALL
    SELECT {message} FROM messages m
    WHERE m.turn_id IN (SELECT id FROM page) AND (m.position IS NULL OR m.position > :after)
    UNION ALL
    SELECT {tool_call} FROM tool_calls k
    WHERE k.turn_id IN (SELECT id FROM page) AND (k.position > :after OR k.result_position > :after)";

const BY_IDS: &str = "t.id IN (:ids)";

const BY_ID: &str = "t.id = :id AND t.owner = :owner";

const BY_MESSAGE: &str = "
    t.id = (SELECT m.turn_id FROM messages m WHERE m.id = :message)
    AND t.conversation_id = :conversation AND t.owner = :owner";

const PAGE: &str = "
    t.conversation_id = :conversation AND t.owner = :owner
    AND t.ordinal > :after_ordinal AND t.ordinal < :before_ordinal
    {replaced} {order} {limit}";

const TOOL_CALLS: &str = "
    SELECT {columns}, {superseded}
    FROM tool_calls k JOIN turns t ON t.id = k.turn_id
    WHERE k.conversation_id = :conversation AND t.owner = :owner AND k.position > :after
    ORDER BY k.position {limit}";

/// The columns of [`TOOL_CALLS`] behind the calls'.
const SUPERSEDED: Columns = TOOL_CALL.then("t.superseded AS superseded");

/// Reads the turns that match `which`, by ordinal, with their items after `after`.
async fn read(
    db: &dyn Connection,
    which: &str,
    bind: impl FnOnce(Sql) -> Sql + Send,
    after: Position,
) -> Result<Vec<TurnView>, StoreFault> {
    let query = Sql::new(TURNS)
        .text("which", which)
        .text("turn", TURN_WITH_DRAFT.text)
        .text("message", MESSAGE.text)
        .text("tool_call", TOOL_CALL.text)
        .bind("after", big(after.0));
    let found = bind(query).query(db).await?;
    assemble(&found, after)
}

/// Reads all items of these turns.
pub(crate) async fn items_of(
    db: &dyn Connection,
    turns: &[TurnId],
) -> Result<HashMap<TurnId, Vec<Item>>, StoreFault> {
    let ids = |query: Sql| query.list("ids", turns.iter().map(|turn| turn.0));
    let views = read(db, BY_IDS, ids, Position::START).await?;
    Ok(views
        .into_iter()
        .map(|view| (view.turn.id, view.items))
        .collect())
}

/// A page of a conversation's turns; `None` if the owner has no such conversation.
pub(crate) async fn turns(
    db: Box<dyn Connection>,
    owner: UserId,
    id: ConversationId,
    page: TurnPage,
) -> Result<Option<Vec<LoggedTurn>>, CommandError> {
    let order = match page.order {
        _ if page.limit == u32::MAX => "",
        PageOrder::OldestFirst => "ORDER BY t.ordinal",
        PageOrder::NewestFirst => "ORDER BY t.ordinal DESC",
    };
    let replaced = if page.includes_superseded {
        ""
    } else {
        "AND NOT t.superseded"
    };
    let bind = |query: Sql| {
        query
            .text("replaced", replaced)
            .text("order", order)
            .limit(page.limit)
            .bind("conversation", id.0)
            .bind("owner", owner.as_str())
            .bind(
                "after_ordinal",
                page.after
                    .map_or(Value::Number(Some(-1)), |after| big(after.0)),
            )
            .bind(
                "before_ordinal",
                page.before.map_or(i64::MAX.into(), |before| big(before.0)),
            )
    };
    let views = read(&*db, PAGE, bind, Position::START).await?;
    if views.is_empty() && conversations::get(&*db, &owner, id).await?.is_none() {
        return Ok(None);
    }
    let logged = |TurnView { turn, items, .. }| LoggedTurn { turn, items };
    Ok(Some(views.into_iter().map(logged).collect()))
}

/// One turn with its items after `after`.
pub(crate) async fn turn(
    db: Box<dyn Connection>,
    owner: UserId,
    turn: TurnRef,
    after: Position,
) -> Result<Option<TurnView>, CommandError> {
    let owner = owner.as_str();
    let views = match turn {
        TurnRef::Id(id) => {
            let bind = |query: Sql| query.bind("id", id.0).bind("owner", owner);
            read(&*db, BY_ID, bind, after).await?
        }
        TurnRef::Message(conversation, message) => {
            let bind = |query: Sql| {
                query
                    .bind("message", message.0)
                    .bind("conversation", conversation.0)
                    .bind("owner", owner)
            };
            read(&*db, BY_MESSAGE, bind, after).await?
        }
    };
    Ok(views.into_iter().next())
}

fn assemble(found: &[QueryResult], after: Position) -> Result<Vec<TurnView>, StoreFault> {
    let mut views: HashMap<TurnId, TurnView> = HashMap::new();
    for row in found.iter().map(|row| Row::new(&TURN, row)) {
        if kind(row)? == Kind::Turn {
            let turn = turns::turn(row)?;
            let view = TurnView {
                draft: turns::draft(row)?,
                turn,
                items: Vec::new(),
            };
            views.insert(view.turn.id, view);
        }
    }
    let mut keep = |item: Item| {
        if let Some(view) = views.get_mut(&item.turn)
            && (item.is_unplaced() || item.position > after)
        {
            view.items.push(item);
        }
    };
    for row in found {
        match kind(Row::new(&TURN, row))? {
            Kind::Turn => {}
            Kind::Message => keep(messages::message(Row::new(&MESSAGE, row))?),
            Kind::ToolCall => {
                let row = Row::new(&TOOL_CALL, row);
                keep(tool_calls::call(row)?);
                tool_calls::result(row)?.into_iter().for_each(&mut keep);
            }
        }
    }
    let mut views: Vec<_> = views.into_values().collect();
    views.sort_unstable_by_key(|view| view.turn.ordinal);
    views
        .iter_mut()
        .for_each(|view| view.items.sort_unstable_by_key(|item| item.position));
    Ok(views)
}

/// The table that a row of a union comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Turn,
    Message,
    ToolCall,
}

/// The [`Kind`] of a row that begins with [`TURN`], [`MESSAGE`] or [`TOOL_CALL`].
pub(crate) fn kind(row: Row<'_>) -> Result<Kind, StoreFault> {
    let column = column!(TURN, "kind");
    match row.get::<i32>(column)? {
        0 => Ok(Kind::Turn),
        1 => Ok(Kind::Message),
        2 => Ok(Kind::ToolCall),
        kind => Err(row.corrupt(column, &format!("unknown kind of row: {kind}"))),
    }
}

/// A page of a conversation's tool calls; `None` if the owner has no such conversation.
pub(crate) async fn tool_calls(
    db: Box<dyn Connection>,
    owner: UserId,
    id: ConversationId,
    page: ToolCallPage,
) -> Result<Option<Vec<ToolCallRecord>>, CommandError> {
    let found = Sql::new(TOOL_CALLS)
        .text("columns", TOOL_CALL.text)
        .text("superseded", SUPERSEDED.text)
        .bind("conversation", id.0)
        .bind("owner", owner.as_str())
        .bind("after", big(page.after.0))
        .limit(page.limit)
        .query(&*db)
        .await?;
    if found.is_empty() && conversations::get(&*db, &owner, id).await?.is_none() {
        return Ok(None);
    }
    let mut records = Vec::new();
    for row in found.iter().map(|row| Row::new(&TOOL_CALL, row)) {
        let call = tool_calls::call(row)?;
        let result = tool_calls::result(row)?.and_then(|item| match item.body {
            ItemBody::ToolResult(result) => Some(result),
            _ => None,
        });
        if let ItemBody::ToolCall(body) = call.body {
            records.push(ToolCallRecord {
                position: call.position,
                turn: call.turn,
                superseded: row.get(column!(SUPERSEDED, "superseded"))?,
                at: call.at,
                call: body,
                result,
            });
        }
    }
    Ok(Some(records))
}
