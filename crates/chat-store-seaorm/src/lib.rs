//! The conversation store on SeaORM
