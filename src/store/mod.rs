//! Where things are kept: opens the store of a server.
//!
//! The server calls [`open`] and hands the port to whoever needs it; nobody else knows what is behind it.

mod embedded;

#[cfg(test)]
mod contract;

use std::path::Path;
use std::sync::Arc;

use crate::history::{Error, History};

/// Opens the history in `state_dir`, both made when they do not exist. Blocks for as long as the disk takes.
///
/// Several processes may have the same one open. Dropping the last handle waits until all writes are done.
///
/// # Errors
/// [`Error::Unavailable`] when the directory or file cannot be made, read or written, or was made by a newer version.
pub fn open(state_dir: &Path) -> Result<Arc<dyn History>, Error> {
    Ok(Arc::new(embedded::Embedded::open(state_dir)?))
}
