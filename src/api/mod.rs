//! Speaks wires: converts, calls, converts back. Decides nothing.

pub mod convert;
mod follow;
pub mod grpc;
mod guard;
mod status;
