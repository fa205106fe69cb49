//! The routes. One route or family of routes per file; each handler decodes, makes one call and encodes.

mod caller;
mod envelope;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};

pub use caller::Caller;
pub use envelope::{RequestId, envelope};

/// Registers every route.
pub fn configure(config: &mut ServiceConfig) {
    config.service(web::scope("/api/{user_id}").wrap(from_fn(caller::authenticate)));
}
