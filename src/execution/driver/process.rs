//! A process and its open ends, as the driver attends to it: what may happen next, and how to take it in.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::super::clock::{Alarm, Clocks};
use super::super::command::Options;
use super::super::event::Channel;
use super::super::handle::{Ends, Order};
use super::super::input::Input;
use super::super::log::{Appended, Writer};
use super::super::outcome::Ending;
use crate::os;

/// One read. Larger ones gain nothing.
const READ: usize = 64 << 10;

/// Reads in a row before anything else gets its turn.
const READS_IN_A_ROW: usize = 16;

/// Reads at the end, enough to empty the largest pipe there may be.
const READS_AT_THE_END: usize = 64;

/// What ends the input of a terminal.
const END_OF_FILE: u8 = 4;

/// What may happen next in the life of a process.
pub(super) enum Happening {
    /// Somebody wants something.
    Order(Order),
    /// The command itself has ended.
    Exited(os::Exit),
    /// No process of the tree is left.
    Emptied(os::Usage),
    /// A clock rings.
    Alarm(Alarm),
    /// Followers came or went.
    Followers,
    /// There is output in this stream.
    Readable(usize),
    /// There is output in this file.
    Grew(usize),
    /// The process takes input.
    StdinWritable,
    /// Output cannot be stored, for the first time or for another reason; or it can again.
    Spool(Option<String>),
    /// There is no room for output, and the child is held back.
    Full,
}

/// A process with its open ends.
pub(super) struct Attended {
    child: os::Child,
    streams: Vec<Stream>,
    files: Vec<Followed>,
    stdin: Option<os::Writer>,
    is_terminal: bool,
    /// End-of-file characters a terminal wants at the end of input: one ends an empty line, one more a line begun.
    ends_due: u8,
    ending: Option<Ending>,
    usage: Option<os::Usage>,
    spool_failure: Option<String>,
    was_full: bool,
    over: bool,
}

struct Stream {
    channel: Channel,
    reader: os::Reader,
}

struct Followed {
    channel: Channel,
    watch: os::files::Watch,
    /// It was not read to its end the last time.
    has_more: bool,
}

/// The channels a run with these options writes to.
pub(super) fn channels(options: &Options) -> Vec<Channel> {
    if options.terminal.is_some() {
        vec![Channel::Terminal]
    } else if options.merge_stderr {
        vec![Channel::Stdout]
    } else {
        vec![Channel::Stdout, Channel::Stderr]
    }
}

impl Attended {
    pub(super) fn new(mut child: os::Child, channels: &[Channel], files: Vec<(Channel, os::files::Watch)>) -> Attended {
        let readers = [child.stdout.take(), child.stderr.take()];
        let streams = channels
            .iter()
            .zip(readers)
            .filter_map(|(channel, reader)| Some(Stream { channel: *channel, reader: reader? }))
            .collect();
        let files = files.into_iter().map(|(channel, watch)| Followed { channel, watch, has_more: true }).collect();
        Attended {
            stdin: child.stdin.take(),
            is_terminal: channels.contains(&Channel::Terminal),
            ends_due: 1,
            child,
            streams,
            files,
            ending: None,
            usage: None,
            spool_failure: None,
            was_full: false,
            over: false,
        }
    }

    /// Waits for whatever happens next, orders first. Cancel-safe.
    pub(super) async fn next(&mut self, ends: &mut Ends, log: &Writer, input: &Input, clocks: &Clocks) -> Happening {
        let alarm = clocks.next(Instant::now());
        let wants_input = input.front().is_some() || input.is_finished();
        let (exited, emptied) = (self.ending.is_some(), self.usage.is_some());
        tokio::select! {
            biased;
            Some(order) = ends.orders.recv() => Happening::Order(order),
            turn = turn(&mut self.child, exited, emptied) => turn,
            () = super::until(alarm) => Happening::Alarm(alarm.expect("it rang").1),
            Ok(()) = ends.watchers.changed() => Happening::Followers,
            failure = log.failure_changed(self.spool_failure.as_deref()) => {
                self.spool_failure.clone_from(&failure);
                Happening::Spool(failure)
            }
            () = log.full(), if !self.was_full => {
                self.was_full = true;
                Happening::Full
            }
            () = writable(self.stdin.as_ref()), if wants_input => Happening::StdinWritable,
            ready = output(log, &self.streams, &self.files) => ready,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid
    }

    pub(super) fn tree(&self) -> &os::Tree {
        &self.child.tree
    }

    pub(super) fn set_ending(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    pub(super) fn has_exited(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn ending(&self) -> Ending {
        self.ending.clone().unwrap_or_else(|| Ending::Unknown { why: "it was not seen to exit".to_owned() })
    }

    pub(super) fn set_usage(&mut self, usage: os::Usage) {
        self.usage = Some(usage);
    }

    pub(super) fn set_over(&mut self) {
        self.over = true;
    }

    /// Nothing more can come: the command has exited, its tree is empty, its output is read.
    pub(super) fn is_over(&self) -> bool {
        self.over || (self.ending.is_some() && self.usage.is_some() && self.open_channels().is_empty())
    }

    /// The channels somebody still holds open.
    pub(super) fn open_channels(&self) -> Vec<Channel> {
        let streams = self.streams.iter().map(|stream| stream.channel);
        streams.chain(self.files.iter().map(|file| file.channel)).collect()
    }

    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Takes what is in a stream now, up to a fair share. `None` when there was nothing.
    pub(super) fn read(&mut self, stream: usize, log: &mut Writer) -> Option<Appended> {
        let mut worst = None;
        for _ in 0..READS_IN_A_ROW {
            let Some(appended) = self.read_up_to(stream, 1, os::Reader::try_read, log) else { break };
            worst = Some(worse(worst, appended));
            if !log.is_ready() {
                break;
            }
        }
        worst
    }

    fn read_up_to(
        &mut self,
        index: usize,
        reads: usize,
        read: fn(&os::Reader, &mut BytesMut) -> io::Result<usize>,
        log: &mut Writer,
    ) -> Option<Appended> {
        let mut worst = None;
        let mut buffer = BytesMut::new();
        for _ in 0..reads {
            let Some(stream) = self.streams.get(index) else { break };
            buffer.reserve(READ);
            match read(&stream.reader, &mut buffer) {
                Ok(0) => {
                    self.streams.remove(index);
                    break;
                }
                Ok(_) => {
                    let appended = log.output(stream.channel, compact(&mut buffer));
                    worst = Some(worse(worst, appended));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(channel = ?stream.channel, %error, "output could not be read");
                    self.streams.remove(index);
                    break;
                }
            }
        }
        worst
    }

    /// Takes what the child has written to a file since.
    pub(super) async fn adopt(&mut self, file: usize, log: &mut Writer) -> Option<Appended> {
        let followed = self.files.get_mut(file)?;
        followed.has_more = true;
        let channel = followed.channel;
        let mut worst = None;
        for _ in 0..READS_IN_A_ROW {
            match log.adopt(channel).await {
                Ok((0, _)) => {
                    self.files[file].has_more = false;
                    break;
                }
                Ok((_, appended)) => {
                    worst = Some(worse(worst, appended));
                    if !log.is_ready() {
                        break; // the disk is waited for where orders are heard
                    }
                }
                Err(error) => {
                    tracing::warn!(?channel, %error, "the spool file could not be read");
                    self.files[file].has_more = false;
                    break;
                }
            }
        }
        worst
    }

    /// Takes all there is now from every pipe, bounded against those who never stop writing.
    pub(super) fn read_pipes(&mut self, log: &mut Writer) -> Option<Appended> {
        (0..self.streams.len())
            .rev()
            .filter_map(|index| self.read_up_to(index, READS_AT_THE_END, os::Reader::read_now, log))
            .reduce(|former, latter| worse(Some(former), latter))
    }

    /// Takes the rest of every file and stops following them. Only when nobody is left to write to them.
    pub(super) async fn finish_files(&mut self, log: &mut Writer) -> Option<Appended> {
        let mut worst = None;
        for file in 0..self.files.len() {
            while let Some(appended) = self.adopt(file, log).await {
                worst = Some(worse(worst, appended));
            }
        }
        self.files.clear();
        worst
    }

    /// Hands input to the process as far as it takes it. True when input is finished, or not wanted any more.
    pub(super) fn feed(&mut self, input: &mut Input) -> bool {
        let Some(stdin) = &self.stdin else { return false };
        while let Some(front) = input.front() {
            match stdin.try_write(front) {
                Ok(count) => {
                    let ends_line = count == 0 || matches!(front[count - 1], b'\n' | b'\r' | END_OF_FILE);
                    self.ends_due = if ends_line { 1 } else { 2 };
                    input.consume(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_closed) => {
                    self.stdin = None;
                    return true;
                }
            }
        }
        if input.is_finished() {
            while self.is_terminal && self.ends_due > 0 {
                match stdin.try_write(&[END_OF_FILE]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Ok(_) | Err(_) => self.ends_due -= 1,
                }
            }
            self.stdin = None;
            return true;
        }
        false
    }

    /// What the tree used, once it is empty; else as far as it can be known.
    pub(super) async fn final_usage(&mut self) -> Option<os::Usage> {
        if self.usage.is_none() {
            let emptied = tokio::time::timeout(Duration::from_secs(1), self.child.emptied());
            self.usage = emptied.await.ok();
        }
        self.usage
    }

    pub(super) async fn release(self) {
        self.child.tree.release().await;
    }
}

async fn turn(child: &mut os::Child, exited: bool, emptied: bool) -> Happening {
    match (exited, emptied) {
        (false, _) => Happening::Exited(child.exited().await),
        (true, false) => Happening::Emptied(child.emptied().await),
        (true, true) => std::future::pending().await,
    }
}

async fn writable(stdin: Option<&os::Writer>) {
    match stdin {
        // An error is met again, and dealt with, by the write.
        Some(stdin) => drop(stdin.writable().await),
        None => std::future::pending().await,
    }
}

/// Waits for output, and for room to put it.
async fn output(log: &Writer, streams: &[Stream], files: &[Followed]) -> Happening {
    if streams.is_empty() && files.is_empty() {
        std::future::pending::<()>().await;
    }
    log.ready().await;
    tokio::select! {
        () = readable(streams.first()) => Happening::Readable(0),
        () = readable(streams.get(1)) => Happening::Readable(1),
        () = grew(files.first()) => Happening::Grew(0),
        () = grew(files.get(1)) => Happening::Grew(1),
    }
}

async fn readable(stream: Option<&Stream>) {
    match stream {
        Some(stream) => drop(stream.reader.readable().await),
        None => std::future::pending().await,
    }
}

async fn grew(file: Option<&Followed>) {
    match file {
        Some(file) if file.has_more => {}
        Some(file) => file.watch.changed().await,
        None => std::future::pending().await,
    }
}

/// The bytes read, in an allocation of their own size when they are few: a small piece must not pin a large block.
fn compact(buffer: &mut BytesMut) -> Bytes {
    if buffer.len() < READ / 2 {
        let piece = Bytes::copy_from_slice(buffer);
        buffer.clear();
        piece
    } else {
        buffer.split().freeze()
    }
}

/// Of two results the one that asks for more to be done.
fn worse(former: Option<Appended>, latter: Appended) -> Appended {
    match (former, latter) {
        (Some(Appended::LimitReached), _) | (_, Appended::LimitReached) => Appended::LimitReached,
        (Some(Appended::Dropping { first: true }), _) => Appended::Dropping { first: true },
        (_, latter) => latter,
    }
}
