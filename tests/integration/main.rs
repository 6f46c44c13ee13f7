//! The real server over the wire, with real programs. One module for each verb.

mod support;

mod agent;
mod attach;
mod cancel;
mod capture;
mod control;
mod crash;
mod create;
mod damage;
mod disconnect;
mod drain;
mod errors;
mod execute;
mod history;
mod info;
mod limits;
mod list;
mod pause;
mod queue;
mod stdin;
mod terminal;
mod timeouts;
mod tree;
mod watchers;
