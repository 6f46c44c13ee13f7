//! The real server over the wire, with real programs. One module for each verb.

mod support;

mod agent;
mod create;
mod execute;
