//! Arguments in, exit code out.

use bursar::secret::allocator::ZeroOnFree;

#[global_allocator]
static HEAP: ZeroOnFree = ZeroOnFree::new();

fn main() -> std::process::ExitCode {
    bursar::crypto::install();
    bursar::cli::main()
}
