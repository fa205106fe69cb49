//! The program itself.

fn main() -> std::process::ExitCode {
    chat_server::main()
}
