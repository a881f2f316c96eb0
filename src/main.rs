//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    bursar::crypto::install();
    bursar::cli::main()
}
