//! Files as a log needs them: giving back the room of what was read, and being told of growth.

use std::{fs::File, io, ops::Range};

use nix::fcntl::{FallocateFlags, fallocate};

pub use super::watch::Watch;

/// Gives the disk blocks of `range` back; the file keeps its length and reads as zeroes there.
///
/// Only whole blocks are freed. Fails with `Unsupported` where the file system cannot.
pub fn punch_hole(file: &File, range: Range<u64>) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let start = i64::try_from(range.start).map_err(invalid)?;
    let length = i64::try_from(range.end.saturating_sub(range.start)).map_err(invalid)?;
    if length == 0 {
        return Ok(());
    }
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, start, length).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write as _, os::unix::fs::MetadataExt as _};

    #[test]
    fn a_hole_frees_blocks_and_keeps_the_length() {
        let mut file = tempfile::tempfile().expect("a file can be made");
        file.write_all(&vec![1; 1 << 20]).expect("it can be written");
        file.sync_all().expect("it reaches the disk");
        let before = file.metadata().expect("it exists");
        match punch_hole(&file, 0..1 << 19) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
            answer => answer.expect("it can be punched"),
        }
        let after = file.metadata().expect("it exists");
        assert_eq!(after.len(), before.len());
        assert!(after.blocks() < before.blocks());
    }
}
