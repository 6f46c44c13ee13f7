//! The real server over the wire, with real programs. One module for each verb.

mod support;

mod agent;
mod cancel;
mod control;
mod crash;
mod damage;
mod disconnect;
mod drain;
mod execute;
mod limits;
mod pause;
mod queue;
mod timeouts;
mod tree;
