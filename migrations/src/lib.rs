#![doc = include_str!("../README.md")]

mod m20261121_000001_initial;
mod m20261125_000001_feedback;
mod m20261129_000001_answers;
mod m20261129_000002_attempts;
mod m20261129_000003_originals;

use std::collections::BTreeSet;

use sea_orm_migration::sea_orm::EntityTrait;
use sea_orm_migration::{
    DbErr, IntoSchemaManagerConnection, MigrationTrait, MigratorTrait, SchemaManager, async_trait,
    seaql_migrations,
};

/// The end of the name of a step that does more than to add tables, indexes, and columns that may
/// be null or have a default. Versions that do not know such a step refuse to start on the schema.
pub const BREAKING: &str = "_breaking";

/// All steps of the schema, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_initial::Migration),
            Box::new(m20261125_000001_feedback::Migration),
            Box::new(m20261129_000001_answers::Migration),
            Box::new(m20261129_000002_attempts::Migration),
            Box::new(m20261129_000003_originals::Migration),
        ]
    }
}

/// How a database's schema compares with the one this version knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Steps that the database lacks, in order.
    pub pending: Vec<String>,
    /// Steps that only a newer version knows.
    pub unknown: Vec<String>,
}

/// Compares a database's schema with this version's. Changes nothing.
///
/// # Errors
/// The database's.
pub async fn compare<'c>(db: impl IntoSchemaManagerConnection<'c>) -> Result<Comparison, DbErr> {
    let mut applied = BTreeSet::new();
    let schema = SchemaManager::new(db);
    if schema.has_table("seaql_migrations").await? {
        applied.extend(
            seaql_migrations::Entity::find()
                .all(schema.get_connection())
                .await?
                .into_iter()
                .map(|step| step.version),
        );
    }
    let known = names();
    let pending = known
        .iter()
        .filter(|name| !applied.contains(*name))
        .cloned()
        .collect();
    let unknown = applied
        .into_iter()
        .filter(|name| !known.contains(name))
        .collect();
    Ok(Comparison { pending, unknown })
}

/// Applies what is pending, each step in a transaction of its own.
///
/// # Errors
/// The database's.
pub async fn apply<'c>(db: impl IntoSchemaManagerConnection<'c>) -> Result<(), DbErr> {
    Migrator::up(db, None).await
}

/// The names of all steps, in order.
pub fn names() -> Vec<String> {
    Migrator::migrations()
        .iter()
        .map(|step| step.name().to_owned())
        .collect()
}
