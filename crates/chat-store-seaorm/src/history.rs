//! Reading turns with their items.

use std::collections::HashMap;

use chat_domain::{Item, Position, Turn, TurnId, TurnView};
use sea_orm::QueryResult;

use crate::db::Db;
use crate::error::StoreFault;
use crate::rows;
use crate::sql::{Row, Sql};

/// Reads turns, `t`, of which this is so (and what may follow a condition), in order, with their
/// items after `after`.
///
/// One statement, whatever their number: one snapshot, and one way to the database's thread and
/// back.
pub(crate) async fn read(
    db: &Db,
    condition: Sql,
    after: Position,
) -> Result<Vec<TurnView>, StoreFault> {
    let after = i64::try_from(after.0).unwrap_or(i64::MAX);
    let fetched = Sql::new("WITH page AS (SELECT 0, ")
        .push(rows::TURN)
        .push(", ")
        .push(rows::DRAFT)
        .push(" FROM turns t WHERE ")
        .append(condition)
        .push(") SELECT * FROM page UNION ALL SELECT 1, ")
        .push(rows::MESSAGE)
        .push(" FROM messages m WHERE m.turn_id IN (SELECT id FROM page) AND (m.position IS NULL OR m.position > ")
        .bind(after)
        .push(") UNION ALL SELECT 2, ")
        .push(rows::CALL)
        .push(" FROM tool_calls k WHERE k.turn_id IN (SELECT id FROM page) AND (k.position > ")
        .bind(after)
        .push(" OR k.result_position > ")
        .bind(after)
        .push(")")
        .all(db)
        .await?;
    assemble(&fetched, Position(after.unsigned_abs()))
}

/// Reads all items of these turns.
pub(crate) async fn items_of(
    db: &Db,
    turns: &[TurnId],
) -> Result<HashMap<TurnId, Vec<Item>>, StoreFault> {
    let named = Sql::new("t.id IN (")
        .list(turns.iter().map(|turn| turn.0))
        .push(")");
    let views = read(db, named, Position::START).await?;
    Ok(views
        .into_iter()
        .map(|view| (view.turn.id, view.items))
        .collect())
}

fn assemble(fetched: &[QueryResult], after: Position) -> Result<Vec<TurnView>, StoreFault> {
    let mut views: HashMap<TurnId, TurnView> = HashMap::new();
    for row in fetched {
        if row.try_get_by::<i32, _>(0)? == 0 {
            let row = Row::new("turns", 1, row);
            let turn: Turn = rows::turn(row, 1)?;
            views.insert(
                turn.id,
                TurnView {
                    turn,
                    items: Vec::new(),
                    draft: rows::draft(row, 1)?,
                },
            );
        }
    }
    let mut keep = |item: Item| {
        if let Some(view) = views.get_mut(&item.turn)
            && (item.is_unplaced() || item.position > after)
        {
            view.items.push(item);
        }
    };
    for row in fetched {
        match row.try_get_by::<i32, _>(0)? {
            0 => {}
            1 => keep(rows::message(Row::new("messages", 1, row), 1)?),
            _ => {
                let row = Row::new("tool_calls", 1, row);
                keep(rows::call(row, 1)?);
                rows::result(row, 1)?.into_iter().for_each(&mut keep);
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
