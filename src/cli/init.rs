//! `init`: writes a configuration file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::print;
use crate::config::{self, Environment, FILE};

/// Writes a configuration file with every setting and its default, all of them commented out.
#[derive(Args)]
pub(super) struct Init {
    /// The file
    #[arg(default_value = FILE)]
    path: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn act(&self) -> Result<u8, Failure> {
        let text = config::template(&Environment::read());
        let mut options = OpenOptions::new();
        options.write(true).create_new(!self.force).create(self.force).truncate(self.force);
        match options.open(&self.path).and_then(|mut file| file.write_all(text.as_bytes())) {
            Ok(()) => print::line(&format!("wrote {}", self.path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Failure::Usage(format!("{} exists; replace it with --force", self.path.display())));
            }
            Err(source) => return Err(Failure::Io { what: format!("cannot write {}", self.path.display()), source }),
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_exists_is_kept_unless_forced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        let act = |force| Init { path: path.clone(), force }.act();
        assert_eq!(act(false).unwrap(), 0);
        std::fs::write(&path, "mine").unwrap();
        assert!(act(false).unwrap_err().to_string().ends_with("a.toml exists; replace it with --force"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(act(true).unwrap(), 0);
        assert!(std::fs::read_to_string(&path).unwrap().contains("# max_concurrent = 100"));
    }
}
