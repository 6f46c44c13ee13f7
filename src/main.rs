//! The `cc-executor` binary.

fn main() {
    // Before anything else: this process may have been started to be the init of one command.
    if cc_executor::os::shim::is_shim() {
        cc_executor::os::shim::main()
    }
}
