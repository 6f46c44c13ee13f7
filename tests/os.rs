//! Real processes, nasty ones, on every kind of containment this machine has.
//!
//! Whether a tree is empty is asked of `/proc` by a cookie of the test's own, never of the code under test.

#[path = "os/support.rs"]
mod support;

#[path = "os/containment.rs"]
mod containment;
#[path = "os/crash.rs"]
mod crash;
#[path = "os/environment.rs"]
mod environment;
#[path = "os/exit.rs"]
mod exit;
#[path = "os/freeze.rs"]
mod freeze;
#[path = "os/output.rs"]
mod output;
#[path = "os/refusal.rs"]
mod refusal;
#[path = "os/terminate.rs"]
mod terminate;
