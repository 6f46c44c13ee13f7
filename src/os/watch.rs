//! Being told that a file has grown: one inotify instance for the whole process.
//!
//! One permanent thread reads it, so that a watch belongs to no runtime in particular.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::sync::Notify;

/// Tells when one file was written to. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    shared: &'static Shared,
    descriptor: WatchDescriptor,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Shared {
    inotify: Inotify,
    watched: Mutex<HashMap<WatchDescriptor, Vec<Weak<Notify>>>>,
}

impl Watch {
    /// Watches `path`, which must exist. What is written from now on is noticed.
    pub fn new(path: impl AsRef<Path>) -> io::Result<Watch> {
        let shared = shared()?;
        let changed = Arc::new(Notify::new());
        // Held across the system call: the same file has the same descriptor, and its last watch may just be ending.
        let mut watched = shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
        let descriptor = shared.inotify.add_watch(path.as_ref(), flags)?;
        watched.entry(descriptor).or_default().push(Arc::downgrade(&changed));
        Ok(Watch { shared, descriptor, changed })
    }

    /// Waits until the file was written to since the last time this returned. May return once too often.
    ///
    /// Cancel-safe: a change is not lost with a dropped future.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(others) = watched.get_mut(&self.descriptor) else { return };
        others.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(&self.changed)));
        if others.is_empty() {
            watched.remove(&self.descriptor);
            // Fails if the file is gone, and with it the watch.
            let _ = self.shared.inotify.rm_watch(self.descriptor);
        }
    }
}

impl Shared {
    fn read(&self) {
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                    let is_overflow = events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
                    if is_overflow {
                        watched.values().for_each(|waiting| wake(waiting));
                        continue;
                    }
                    for event in &events {
                        watched.get(&event.wd).into_iter().for_each(|waiting| wake(waiting));
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn wake(waiting: &[Weak<Notify>]) {
    waiting.iter().filter_map(Weak::upgrade).for_each(|changed| changed.notify_one());
}

fn shared() -> io::Result<&'static Shared> {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = SHARED.get() {
        return Ok(shared);
    }
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let shared = SHARED.get_or_init(|| Shared { inotify, watched: Mutex::default() });
    std::thread::Builder::new().name("cc-watch".into()).spawn(|| shared.read())?;
    Ok(shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn growth_is_told_to_every_watch_of_the_file() {
        let mut file = tempfile::NamedTempFile::new().expect("a file can be made");
        let first = Watch::new(file.path()).expect("it can be watched");
        let second = Watch::new(file.path()).expect("it can be watched twice");
        file.write_all(b"x").expect("it can be written");
        first.changed().await;
        second.changed().await;
        drop(first);
        file.write_all(b"y").expect("it can be written");
        second.changed().await;
    }
}
