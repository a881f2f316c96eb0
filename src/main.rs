//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    bursar::crypto::install();
    std::process::ExitCode::SUCCESS
}
