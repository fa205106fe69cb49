//! Finding conversations and turns by what clients of other protocols know of them, and whether
//! turns have changed.

use std::collections::HashMap;

use chat_domain::{
    BegunPage, Conversation, ConversationId, MessageId, Position, StoreError, Timestamp, Turn,
    TurnId, TurnMark, UserId,
};

use crate::db::Db;
use crate::job::Stop;
use crate::rows;
use crate::sql::{Row, Sql};

pub(crate) async fn conversations_begun(
    db: Db,
    owner: UserId,
    page: BegunPage,
) -> Result<Vec<Conversation>, Stop> {
    let mut query = Sql::new("SELECT ")
        .push(rows::CONVERSATION)
        .push(" FROM conversations WHERE owner = ")
        .bind(owner.as_str());
    if let Some(after) = page.after {
        query = query
            .push(if page.newest_first {
                " AND id < "
            } else {
                " AND id > "
            })
            .bind(after.0);
    }
    let query = query
        .push(if page.newest_first {
            " ORDER BY id DESC"
        } else {
            " ORDER BY id"
        })
        .limit(page.limit);
    let found = query.all(&db).await?;
    Ok(found
        .iter()
        .map(|row| rows::conversation(Row::new("conversations", 0, row)))
        .collect::<Result<_, _>>()?)
}

pub(crate) async fn turn_of(
    db: Db,
    owner: UserId,
    id: ConversationId,
    message: MessageId,
) -> Result<Turn, Stop> {
    let query = Sql::new("SELECT ")
        .push(rows::TURN)
        .push(" FROM messages m JOIN turns t ON t.id = m.turn_id WHERE m.id = ")
        .bind(message.0);
    let query = query
        .push(" AND t.conversation_id = ")
        .bind(id.0)
        .push(" AND t.owner = ")
        .bind(owner.as_str());
    let found = query.all(&db).await?;
    let row = found.first().ok_or(StoreError::NotFound)?;
    Ok(rows::turn(Row::new("turns", 0, row), 0)?)
}

pub(crate) async fn marks(db: Db, turns: Vec<TurnId>) -> Result<HashMap<TurnId, TurnMark>, Stop> {
    let found = Sql::new("SELECT t.id, t.epoch, t.ended_at IS NOT NULL, c.last_position, ")
        // The length is known without reading the text.
        .push("CAST(COALESCE(octet_length(t.draft_text), 0) AS BIGINT) FROM turns t JOIN conversations c ON c.id = t.conversation_id ")
        .push("WHERE t.id IN (")
        .list(turns.into_iter().map(|turn| turn.0))
        .push(")")
        .all(&db)
        .await?;
    let mut marks = HashMap::new();
    for row in &found {
        let row = Row::new("turns", 0, row);
        let (epoch, ended) = (row.count(1, "epoch")?, row.get(2, "ended_at")?);
        let mark = TurnMark {
            epoch,
            ended,
            last: Position(row.count(3, "last_position")?),
            draft_bytes: row.count(4, "draft_text")?,
        };
        marks.insert(TurnId(row.get(0, "id")?), mark);
    }
    Ok(marks)
}

pub(crate) async fn first_asked(
    db: Db,
    owner: UserId,
    turns: Vec<TurnId>,
) -> Result<HashMap<TurnId, (MessageId, Timestamp)>, Stop> {
    let found = Sql::new("WITH RECURSIVE chain(turn, origin) AS (SELECT t.id, t.id FROM turns t WHERE t.owner = ")
        .bind(owner.as_str())
        .push(" AND t.id IN (")
        .list(turns.into_iter().map(|turn| turn.0))
        .push(") UNION ALL SELECT c.turn, t.retry_of FROM chain c JOIN turns t ON t.id = c.origin WHERE t.retry_of IS NOT NULL) ")
        // Joins in this order: by itself, SQLite would read all messages first.
        .push("SELECT c.turn, m.id, m.created_at FROM chain c CROSS JOIN turns t CROSS JOIN messages m ")
        .push("WHERE t.id = c.origin AND t.retry_of IS NULL AND m.turn_id = t.id AND m.role = 'user'")
        .all(&db)
        .await?;
    let mut asked = HashMap::new();
    for row in &found {
        let row = Row::new("messages", 1, row);
        let question = (
            MessageId(row.get(1, "id")?),
            Timestamp(row.get(2, "created_at")?),
        );
        asked.insert(TurnId(row.get(0, "turn_id")?), question);
    }
    Ok(asked)
}
