//! The kubectl plugin: `kubectl dkim`.

fn main() -> std::process::ExitCode {
    dkim_operator::cli::main()
}
