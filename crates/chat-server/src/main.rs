//! The chat server.

fn main() -> std::process::ExitCode {
    chat_server::main()
}
