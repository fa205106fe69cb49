//! The server under test.

fn main() -> std::process::ExitCode {
    chat_server::main()
}
