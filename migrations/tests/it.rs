//! Invariants of the schema, and migrations in both directions.
// Clippy recognizes tests by their attribute, which helpers do not have.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use chat_migrations::{Comparison, Migrator, apply, compare, names};
use sea_orm_migration::MigratorTrait;
use sea_orm_migration::sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, SqlErr, Statement,
};

async fn database() -> DatabaseConnection {
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(1);
    Database::connect(options).await.unwrap()
}

async fn texts(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await
        .unwrap();
    rows.iter().map(|row| row.try_get_by(0).unwrap()).collect()
}

async fn count(db: &DatabaseConnection, table: &str) -> i64 {
    let row = db
        .query_one_raw(Statement::from_string(
            db.get_database_backend(),
            format!("SELECT COUNT(*) FROM {table}"),
        ))
        .await;
    row.unwrap().unwrap().try_get_by(0).unwrap()
}

const TABLES: [&str; 6] = [
    "conversations",
    "feedback",
    "messages",
    "tool_calls",
    "turns",
    "workers",
];

#[tokio::test]
async fn all_migrations_can_be_applied_and_reverted() {
    let db = database().await;
    assert_eq!(
        compare(&db).await.unwrap(),
        Comparison {
            pending: names(),
            unknown: Vec::new()
        }
    );
    let ours = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND tbl_name <> \
    'seaql_migrations' ORDER BY name";
    for _ in 0..2 {
        apply(&db).await.unwrap();
        assert_eq!(compare(&db).await.unwrap(), Comparison::default());
        assert_eq!(
            texts(
                &db,
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> \
                'seaql_migrations' ORDER BY name",
            )
            .await,
            TABLES
        );
        for _ in names() {
            Migrator::down(&db, Some(1)).await.unwrap();
        }
        assert_eq!(texts(&db, ours).await, [""; 0]);
    }
}

#[tokio::test]
async fn migrations_of_a_newer_version_are_detected() {
    let db = database().await;
    apply(&db).await.unwrap();
    db.execute_unprepared(
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9_new', 0)",
    )
    .await
    .unwrap();
    assert_eq!(
        compare(&db).await.unwrap(),
        Comparison {
            pending: Vec::new(),
            unknown: vec!["m9_new".to_owned()]
        }
    );
}

async fn turn(
    db: &DatabaseConnection,
    id: u8,
    ordinal: u8,
    status: &str,
    key: &str,
) -> Result<(), DbErr> {
    db.execute_unprepared(&format!(
        "INSERT INTO turns (id, conversation_id, owner, ordinal, status, epoch, attempt, \
        cancel_requested, superseded, idempotency_key, \
         input_tokens, output_tokens, created_at) VALUES (x'{id:02}', x'01', 'ann', {ordinal}, \
         '{status}', 1, 1, FALSE, FALSE, {key}, 0, 0, 0)"
    ))
    .await
    .map(drop)
}

async fn message(db: &DatabaseConnection, id: u8, position: &str) -> Result<(), DbErr> {
    db.execute_unprepared(&format!(
        "INSERT INTO messages (id, conversation_id, turn_id, position, role, text, created_at) \
         VALUES (x'{id:02}', x'01', x'01', {position}, 'user', '', 0)"
    ))
    .await
    .map(drop)
}

fn is_unique_violation(result: Result<(), DbErr>) -> bool {
    matches!(
        result.unwrap_err().sql_err(),
        Some(SqlErr::UniqueConstraintViolation(_))
    )
}

#[tokio::test]
async fn the_database_enforces_the_invariants() {
    let db = database().await;
    apply(&db).await.unwrap();
    assert!(matches!(
        turn(&db, 1, 1, "running", "NULL")
            .await
            .unwrap_err()
            .sql_err(),
        Some(SqlErr::ForeignKeyConstraintViolation(_))
    ));
    db.execute_unprepared(
        "INSERT INTO conversations VALUES (x'01', 'ann', 'Groceries', 0, 0, 0, 0)",
    )
    .await
    .unwrap();
    turn(&db, 1, 1, "running", "'key'").await.unwrap();
    assert!(
        is_unique_violation(turn(&db, 2, 2, "running", "NULL").await),
        "two running turns were accepted"
    );
    assert!(
        is_unique_violation(turn(&db, 2, 2, "queued", "'key'").await),
        "a duplicate key was accepted"
    );
    assert!(
        is_unique_violation(turn(&db, 2, 1, "queued", "NULL").await),
        "a duplicate ordinal was accepted"
    );
    turn(&db, 2, 2, "queued", "NULL").await.unwrap();
    turn(&db, 3, 3, "queued", "NULL").await.unwrap();
    message(&db, 1, "1").await.unwrap();
    assert!(
        is_unique_violation(message(&db, 2, "1").await),
        "a duplicate position was accepted"
    );
    message(&db, 2, "NULL").await.unwrap();
    message(&db, 3, "NULL").await.unwrap();
    db.execute_unprepared(
        "INSERT INTO tool_calls (id, conversation_id, turn_id, message_id, position, tool, \
        arguments, ran_by, created_at) \
         VALUES (x'01', x'01', x'01', x'01', 2, 'list', '{}', 'us', 0)",
    )
    .await
    .unwrap();
    db.execute_unprepared("INSERT INTO feedback VALUES (x'01', x'01', 'positive', 0)")
        .await
        .unwrap();
    db.execute_unprepared("DELETE FROM conversations")
        .await
        .unwrap();
    for table in TABLES {
        assert_eq!(count(&db, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn json_and_ids_are_stored_unchanged() {
    let db = database().await;
    apply(&db).await.unwrap();
    let declared = texts(
        &db,
        "SELECT name || ' ' || type FROM pragma_table_info('tool_calls') WHERE name IN ('id', \
            'arguments', 'output')",
    )
    .await;
    // These affinities convert nothing: text remains text, bytes remain bytes, and `1e400` does not
    // become a number.
    assert_eq!(
        declared,
        ["id uuid_text", "arguments json_text", "output json_text"]
    );
}

/// Returns the columns of all tables: table, name, type, and whether an insert must name the
/// column.
async fn columns(
    db: &DatabaseConnection,
) -> std::collections::BTreeMap<(String, String), (String, bool)> {
    let sql = "SELECT m.name || ' ' || c.name || ' ' || c.type || ' ' || (c.\"notnull\" AND \
    c.dflt_value IS NULL) \
               FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND \
               m.name <> 'seaql_migrations'";
    let rows = texts(db, sql).await;
    let column = |row: &String| {
        let words: Vec<&str> = row.split(' ').collect();
        let [table, name, kind @ .., is_required] = words.as_slice() else {
            panic!("{row}")
        };
        let key = ((*table).to_owned(), (*name).to_owned());
        (key, (kind.join(" "), *is_required == "1"))
    };
    rows.iter().map(column).collect()
}

/// An older server writes to the schema of a newer one, so its columns must be unchanged, and new
/// columns must be optional.
#[tokio::test]
async fn migrations_only_add() {
    let db = database().await;
    let mut before = std::collections::BTreeMap::new();
    for step in names() {
        Migrator::up(&db, Some(1)).await.unwrap();
        let after = columns(&db).await;
        if !step.ends_with(chat_migrations::BREAKING) {
            for (column, form) in &before {
                assert_eq!(after.get(column), Some(form), "{step} changes {column:?}");
            }
            for ((table, name), (_, is_required)) in &after {
                let is_new = !before.contains_key(&(table.clone(), name.clone()));
                let is_old_table = before.keys().any(|(known, _)| known == table);
                assert!(
                    !(is_new && is_old_table && *is_required),
                    "{step}: an older server cannot insert into {table} without {name}"
                );
            }
        }
        before = after;
    }
    assert!(before.len() > 40, "{before:?}");
}
