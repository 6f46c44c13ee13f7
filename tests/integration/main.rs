//! The real server over the wire, with real programs. One module for each verb.

mod support;

mod agent;
mod attach;
mod capture;
mod create;
mod errors;
mod execute;
mod history;
mod info;
mod list;
mod stdin;
mod terminal;
mod watchers;
