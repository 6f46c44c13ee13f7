//! Users of this machine, looked up by name or number.

use std::{ffi::CString, io, path::PathBuf};

use nix::unistd::{Uid, User as Entry, getgrouplist};

/// An account a command can run as, with everything resolved: the shim asks no name service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Every group it is in, the primary one included.
    pub groups: Vec<u32>,
    /// Its name.
    pub name: String,
    /// Its home directory.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: PathBuf,
}

impl User {
    /// Finds an account by name or, if there is none of that name, by number. `None` if there is neither.
    ///
    /// Blocks while name services are asked, which is usually a read of two small files.
    pub fn lookup(name_or_uid: &str) -> io::Result<Option<User>> {
        let by_name = if name_or_uid.contains('\0') { None } else { Entry::from_name(name_or_uid)? };
        let entry = match (by_name, name_or_uid.parse::<u32>()) {
            (Some(entry), _) => Some(entry),
            (None, Ok(uid)) => Entry::from_uid(Uid::from_raw(uid))?,
            (None, Err(_)) => None,
        };
        entry.map(User::resolve).transpose()
    }

    fn resolve(entry: Entry) -> io::Result<User> {
        let name = CString::new(entry.name.as_str())?;
        let groups = getgrouplist(&name, entry.gid)?;
        Ok(User {
            uid: entry.uid.as_raw(),
            gid: entry.gid.as_raw(),
            groups: groups.into_iter().map(|group| group.as_raw()).collect(),
            name: entry.name,
            home: entry.dir,
            shell: entry.shell,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_find_the_same_account() {
        let by_name = User::lookup("root").expect("the lookup works").expect("root exists");
        assert_eq!(by_name.uid, 0);
        assert_eq!(User::lookup("0").expect("the lookup works"), Some(by_name));
        assert_eq!(User::lookup("no such user").expect("the lookup works"), None);
    }
}
