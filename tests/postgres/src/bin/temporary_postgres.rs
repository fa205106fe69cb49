//! Starts a temporary PostgreSQL, prints its URL, and keeps it until this program ends.

use std::process::ExitCode;

use chat_test_postgres::{Cluster, Options, URL_VARIABLE};

fn main() -> ExitCode {
    let cluster = match Cluster::start(Options::default()) {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("export {URL_VARIABLE}='{}'", cluster.url("postgres"));
    println!(
        "Its folder {} is removed when this program ends (Ctrl-C).",
        cluster.folder().display()
    );
    loop {
        std::thread::park();
    }
}
