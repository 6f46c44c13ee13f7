//! Facts about this machine that runs depend on. It looks, and does not judge.

use std::io;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

/// What was seen; `None` where it could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Where records and output live.
    pub(super) state_dir: String,
    /// Why files cannot be made there.
    pub(super) not_writable: Option<String>,
    /// Room for files of ours, bytes.
    pub(super) free_bytes: Option<u64>,
    /// Most files this process may have open.
    pub(super) open_files: Option<u64>,
    /// Pages that all pipes of a user without privileges may hold before new ones shrink; 0 is no limit.
    pub(super) pipe_pages: Option<u64>,
    /// Whether that limit counts for us.
    pub(super) is_root: bool,
    /// Shells on the PATH.
    pub(super) shells: Vec<&'static str>,
}

impl Machine {
    /// Looks.
    pub(super) fn look(state_dir: &Path) -> Machine {
        Machine {
            state_dir: state_dir.display().to_string(),
            not_writable: write_a_file(state_dir).err().map(|error| error.to_string()),
            free_bytes: statvfs(state_dir)
                .ok()
                .map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size())),
            open_files: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
            pipe_pages: read_number("/proc/sys/fs/pipe-user-pages-soft"),
            is_root: nix::unistd::geteuid().is_root(),
            shells: ["zsh", "bash", "sh"].into_iter().filter(|shell| is_on_path(shell)).collect(),
        }
    }
}

/// Makes a file there, and takes it away.
fn write_a_file(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join(format!(".doctor-{}", std::process::id()));
    std::fs::write(&path, b"can this be written?").and_then(|()| std::fs::remove_file(&path))
}

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
