//! The `cc-executor` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: this process may have been started to be the init of one command.
    if cc_executor::os::shim::is_shim() {
        cc_executor::os::shim::main()
    }
    cc_executor::cli::run()
}
