//! The `cc-executor` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    cc_executor::cli::run()
}
