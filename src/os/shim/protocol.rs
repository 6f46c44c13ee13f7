//! What the server and the shim of one command say to each other, and how it is framed.
//!
//! Both ends are normally the same build; the version guards the case that the binary was replaced in between.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::os::{SpawnError, Usage};

/// Changes with every change of the types below.
pub(in crate::os) const VERSION: u16 = 1;

/// A frame larger than this is nonsense, not a message.
const LARGEST: usize = 64 << 20;

/// What the shim is to start. Travels in a memfd, never in arguments or environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::os) struct Order {
    pub(in crate::os) version: u16,
    /// The process that must be our parent, or it has died already.
    pub(in crate::os) server: u32,
    /// Stay as the init of the command (`true`), or become it.
    pub(in crate::os) resident: bool,
    pub(in crate::os) program: Vec<u8>,
    pub(in crate::os) arguments: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub(in crate::os) environment: Vec<Vec<u8>>,
    /// The value of `PATH` in that environment.
    pub(in crate::os) path: Option<Vec<u8>>,
    pub(in crate::os) working_directory: PathBuf,
    pub(in crate::os) user: Option<Identity>,
    /// Make standard output the controlling terminal.
    pub(in crate::os) terminal: bool,
    /// Which of the three descriptors are pipes or the terminal, to be given to the user.
    pub(in crate::os) owned: [bool; 3],
    /// The command's cgroup; the shim stays outside and removes it at the end.
    pub(in crate::os) cgroup: Option<PathBuf>,
    pub(in crate::os) open_files: Option<u64>,
    pub(in crate::os) cpu_seconds: Option<u64>,
}

/// Whom the command runs as.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::os) struct Identity {
    pub(in crate::os) uid: u32,
    pub(in crate::os) gid: u32,
    pub(in crate::os) groups: Vec<u32>,
}

/// Server to shim, each with a number that the answer repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::os) enum Request {
    Signal {
        number: i32,
        reach: Reach,
        resume: bool,
    },
    Freeze,
    Thaw,
    Kill,
    Members,
    Usage,
    /// Kill what is left and end. Not answered: the shim's end of the socket closes.
    Release,
}

/// How far a signal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::os) enum Reach {
    Leader,
    Group,
    Tree,
}

/// Shim to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::os) enum Message {
    /// The program is executing.
    Started { pid: u32 },
    /// It is not and never will be.
    Failed(SpawnError),
    /// The leader ended by itself.
    Exited { code: i32 },
    /// A signal ended the leader.
    Signaled { number: i32, core_dumped: bool },
    /// No process of the tree is left. May come once, after the leader's end.
    Empty(Usage),
    /// The answer to the request of this number.
    Answer(u64, Answer),
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::os) enum Answer {
    /// Processes signalled, or woken.
    Count(u32),
    Frozen {
        processes: u32,
        complete: bool,
    },
    Killed {
        processes: u32,
        survivors: Vec<Living>,
    },
    Members(Vec<Living>),
    Usage(Usage),
    /// The error number of what failed.
    Failed(i32),
}

/// One process that is no zombie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::os) struct Living {
    pub(in crate::os) pid: u32,
    pub(in crate::os) command: String,
    pub(in crate::os) state: char,
}

/// One message with its length in front.
pub(in crate::os) fn frame(message: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_stdvec(message).expect("these types have no value that cannot be written");
    let length = u32::try_from(body.len()).expect("messages are far below 4 GiB");
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// Takes the first whole message off `buffer`; `None` until there is one.
pub(in crate::os) fn unframe<T: DeserializeOwned>(buffer: &mut bytes::BytesMut) -> io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let frame = buffer.split_to(4 + length);
    let message = postcard::from_bytes(&frame[4..]).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_being_cut_anywhere() {
        let sent = [Message::Started { pid: 7 }, Message::Exited { code: 255 }];
        let bytes: Vec<u8> = sent.iter().flat_map(frame).collect();
        let mut buffer = bytes::BytesMut::new();
        let mut received: Vec<Message> = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            received.extend(unframe(&mut buffer).expect("it is well formed"));
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn an_absurd_length_is_an_error() {
        let mut buffer = bytes::BytesMut::from(&[255u8; 8][..]);
        assert!(unframe::<Message>(&mut buffer).is_err());
    }
}
