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

/// Name suffix of a migration that does more than add tables, indexes, and columns that are
/// nullable or have a default. Versions that do not know such a migration refuse to start.
pub const BREAKING: &str = "_breaking";

/// All migrations, in order.
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

/// The difference between a database's schema and the schema of this version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Migrations that the database lacks, in order.
    pub pending: Vec<String>,
    /// Migrations that only a newer version knows.
    pub unknown: Vec<String>,
}

/// Compares a database's schema with the schema of this version. Read-only.
///
/// # Errors
/// Errors of the database.
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

/// Applies pending migrations, each in its own transaction.
///
/// # Errors
/// Errors of the database.
pub async fn apply<'c>(db: impl IntoSchemaManagerConnection<'c>) -> Result<(), DbErr> {
    Migrator::up(db, None).await
}

/// Returns the names of all migrations, in order.
pub fn names() -> Vec<String> {
    Migrator::migrations()
        .iter()
        .map(|step| step.name().to_owned())
        .collect()
}
