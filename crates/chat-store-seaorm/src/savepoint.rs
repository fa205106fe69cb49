//! Parts of a transaction that may fail by themselves.

use crate::connection::Connection;
use crate::error::StoreFault;
use crate::sql::Sql;

/// Does a part of a transaction. If it fails permanently, only the part is rolled back.
///
/// # Errors
/// A transient fault, damage of an SQLite file, or a fault of the savepoint itself: it is of the
/// whole transaction.
pub(crate) async fn attempt<T>(
    db: &dyn Connection,
    part: impl Future<Output = Result<T, StoreFault>>,
) -> Result<Result<T, StoreFault>, StoreFault> {
    Sql::new("SAVEPOINT part").execute(db).await?;
    let done = part.await;
    match &done {
        Err(fault) if fault.is_transient() => return Err(fault.clone()),
        Err(fault) if fault.is_damage() && !db.confines_damage() => {
            return Err(fault.clone());
        }
        Err(_) => drop(Sql::new("ROLLBACK TO SAVEPOINT part").execute(db).await?),
        Ok(_) => {}
    }
    Sql::new("RELEASE SAVEPOINT part").execute(db).await?;
    Ok(done)
}
