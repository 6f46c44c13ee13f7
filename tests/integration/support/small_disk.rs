//! A disk that is soon full, under the spool of a server to come.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::Uid;

use super::server::State;

/// A disk of 16 MiB, unmounted in the end.
pub(crate) struct SmallDisk {
    /// The state directory with the disk in it, for a server to take.
    pub(crate) state: Option<State>,
    path: PathBuf,
}

impl SmallDisk {
    /// `None` where that is not allowed.
    pub(crate) fn new() -> Option<SmallDisk> {
        let state = State::new();
        let path = state.path().join("spool");
        fs::create_dir(&path).expect("the directory is empty");
        let is_mounted = Uid::effective().is_root()
            && mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=16m")).is_ok();
        if !is_mounted {
            #[expect(clippy::print_stderr, reason = "who runs the tests must know what was not tested")]
            {
                eprintln!("skipped: only root may mount a small disk");
            }
            return None;
        }
        Some(SmallDisk { path, state: Some(state) })
    }

    /// Uses up all of it.
    pub(crate) fn fill(&self) {
        let mut filler = fs::File::create(self.path.join("filler")).expect("there is room for a name");
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.path.join("filler")).expect("it has been filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
