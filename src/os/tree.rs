//! All processes of one command: signals, freezing, killing, counting.

use std::{fmt, io, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Usage,
    child::Progress,
    floor::Floor,
    link::Link,
    shim::protocol::{Answer, Living, Reach, Request},
    syscall,
};

/// The longest an operation may take before its caller is told so.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A handle to the processes of one command. Cheap to clone; keeps nothing alive.
///
/// Every operation is carried out by the command's shim (on the floor: by a blocking thread) and answers within
/// five seconds. Dropping the future of one does not undo it. On a tree that is empty already all of them succeed
/// and reach nobody.
#[derive(Debug, Clone)]
pub struct Tree {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    link: Option<Link>,
    floor: Floor,
    progress: watch::Receiver<Progress>,
    terminal: Option<OwnedFd>,
    end: CancellationToken,
}

/// How far a signal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The process that was started.
    Leader,
    /// Its process group.
    Group,
    /// Every process of the command.
    Tree,
}

/// What a freeze reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// Processes in the tree.
    pub processes: u32,
    /// Whether all of them were seen held; if not, some may still run.
    pub complete: bool,
}

/// What a kill reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// Processes that were alive when they were sent the signal.
    pub processes: u32,
    /// Those that were still alive after two seconds. They are killed again until they are gone.
    pub survivors: Vec<Member>,
}

/// One process that is no zombie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub pid: u32,
    /// Its name, of at most 15 bytes.
    pub command: String,
    /// The letter of `ps`: `R`, `S`, `D`, `T`, …
    pub state: char,
}

/// Why an operation on a tree failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeError {
    /// No answer in five seconds; it may still happen.
    Timeout,
    /// The kernel refused, with this error number.
    Refused(i32),
    /// The runtime that watched the tree has ended.
    Gone,
}

impl Tree {
    pub(super) fn new(
        link: Option<Link>,
        floor: Floor,
        progress: watch::Receiver<Progress>,
        terminal: Option<OwnedFd>,
        end: CancellationToken,
    ) -> Tree {
        Tree { shared: Arc::new(Shared { link, floor, progress, terminal, end }) }
    }

    /// Sends signal `number` and says how many processes it went to.
    ///
    /// To a stopped or frozen process it is delivered when that goes on (KILL at once); see [`Tree::terminate`].
    pub async fn signal(&self, number: i32, scope: Scope) -> Result<u32, TreeError> {
        self.count(Request::Signal { number, reach: scope.into(), resume: false }).await
    }

    /// Sends signal `number`, then wakes what it was sent to and thaws the tree, in this order, so that also a
    /// stopped process can handle it. How many processes the signal went to.
    pub async fn terminate(&self, number: i32, scope: Scope) -> Result<u32, TreeError> {
        self.count(Request::Signal { number, reach: scope.into(), resume: true }).await
    }

    /// Holds every process of the tree. Without a cgroup this is SIGSTOP, which its processes could notice.
    pub async fn freeze(&self) -> Result<Frozen, TreeError> {
        match self.ask(Request::Freeze).await? {
            Answer::Frozen { processes, complete } => Ok(Frozen { processes, complete }),
            _ => Ok(Frozen { processes: 0, complete: true }),
        }
    }

    /// Lets go on what [`Tree::freeze`] held, and nothing that had been stopped otherwise. How many.
    pub async fn thaw(&self) -> Result<u32, TreeError> {
        self.count(Request::Thaw).await
    }

    /// Kills every process, and looks for two seconds whether all of them are gone.
    pub async fn kill(&self) -> Result<Killed, TreeError> {
        match self.ask(Request::Kill).await? {
            Answer::Killed { processes, survivors } => {
                Ok(Killed { processes, survivors: survivors.into_iter().map(Member::from).collect() })
            }
            _ => Ok(Killed { processes: 0, survivors: Vec::new() }),
        }
    }

    /// The processes of the tree, without zombies.
    pub async fn members(&self) -> Result<Vec<Member>, TreeError> {
        match self.ask(Request::Members).await? {
            Answer::Members(members) => Ok(members.into_iter().map(Member::from).collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// What the tree has used so far; after its end, in all. Zeroes if nobody can be asked.
    pub async fn usage(&self) -> Usage {
        if let Some(usage) = self.final_usage() {
            return usage;
        }
        match self.ask(Request::Usage).await {
            Ok(Answer::Usage(usage)) => usage,
            _ => self.final_usage().unwrap_or_default(),
        }
    }

    /// Tells the terminal its new size. `NotConnected` without a terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let terminal = self.shared.terminal.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        syscall::resize_terminal(terminal, rows, columns)
    }

    /// The run is over: kills what is left, ends the shim, removes the cgroup. Returns when that is done, or after
    /// five seconds, in which case it goes on in the background. Cancel-safe: it happens all the same.
    pub async fn release(&self) {
        self.shared.end.cancel();
        let mut progress = self.shared.progress.clone();
        // Too late or ended without an answer: there is nothing to add.
        let _ = tokio::time::timeout(TIMEOUT, progress.wait_for(|progress| progress.is_over)).await;
    }

    async fn count(&self, request: Request) -> Result<u32, TreeError> {
        match self.ask(request).await? {
            Answer::Count(count) => Ok(count),
            _ => Ok(0),
        }
    }

    async fn ask(&self, request: Request) -> Result<Answer, TreeError> {
        let answer = tokio::time::timeout(TIMEOUT, self.ask_somebody(request));
        match answer.await.map_err(|_| TreeError::Timeout)? {
            Some(Answer::Failed(errno)) => Err(TreeError::Refused(errno)),
            Some(answer) => Ok(answer),
            None => Err(TreeError::Gone),
        }
    }

    async fn ask_somebody(&self, request: Request) -> Option<Answer> {
        if self.final_usage().is_some() {
            return Some(Answer::Count(0));
        }
        if let Some(link) = &self.shared.link {
            if let Some(answer) = link.ask(request).await {
                return Some(answer);
            }
            // The shim has ended: because all is over, or because somebody killed it.
            if self.final_usage().is_some() {
                return Some(Answer::Count(0));
            }
        }
        self.shared.floor.ask(request).await
    }

    fn final_usage(&self) -> Option<Usage> {
        self.shared.progress.borrow().usage
    }
}

impl From<Scope> for Reach {
    fn from(scope: Scope) -> Reach {
        match scope {
            Scope::Leader => Reach::Leader,
            Scope::Group => Reach::Group,
            Scope::Tree => Reach::Tree,
        }
    }
}

impl From<Living> for Member {
    fn from(living: Living) -> Member {
        Member { pid: living.pid, command: living.command, state: living.state }
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::Timeout => formatter.write_str("reach the processes within five seconds"),
            TreeError::Refused(errno) => {
                let reason = nix::errno::Errno::from_raw(*errno).desc().to_lowercase();
                write!(formatter, "reach the processes: {reason}")
            }
            TreeError::Gone => formatter.write_str("reach the processes: nobody watches them any more"),
        }
    }
}

impl std::error::Error for TreeError {}
