//! The running SHA-256 of each channel, taken away while somebody adds to it without the log's lock. Pure.

use std::mem;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::execution::event::Channel;

/// The digests of a log, and how far they have come.
#[derive(Debug)]
pub(super) struct Digests {
    hashers: Hashers,
    /// The newest event whose output is in them, or need not be.
    through: u64,
}

#[derive(Debug)]
enum Hashers {
    Here(Box<[Option<Sha256>; 3]>),
    /// Somebody is adding to them.
    Away,
    /// The beginning was not digested, so there will be none.
    Never,
}

impl Digests {
    /// Of a log from its beginning.
    pub(super) fn new() -> Digests {
        Digests { hashers: Hashers::Here(Box::default()), through: 0 }
    }

    /// Of a log whose beginning nobody digested.
    pub(super) fn never() -> Digests {
        Digests { hashers: Hashers::Never, through: u64::MAX }
    }

    /// Takes them away to add to them, unless somebody else has.
    pub(super) fn take(&mut self) -> Option<Digests> {
        let hashers = match self.hashers {
            Hashers::Here(_) => mem::replace(&mut self.hashers, Hashers::Away),
            Hashers::Never => Hashers::Never,
            Hashers::Away => return None,
        };
        Some(Digests { hashers, through: self.through })
    }

    /// Adds output, up to that of event `through`.
    pub(super) fn update(&mut self, output: &[(Channel, Bytes)], through: u64) {
        self.through = self.through.max(through);
        let Hashers::Here(hashers) = &mut self.hashers else { return };
        for (channel, data) in output {
            hashers[channel.index()].get_or_insert_default().update(data);
        }
    }

    /// The newest event whose output is in them, unless somebody is adding to them.
    pub(super) fn digested(&self) -> Option<u64> {
        (!matches!(self.hashers, Hashers::Away)).then_some(self.through)
    }

    /// The digest of one channel.
    pub(super) fn of(&self, channel: Channel) -> Option<[u8; 32]> {
        let Hashers::Here(hashers) = &self.hashers else { return None };
        Some(hashers[channel.index()].clone().unwrap_or_default().finalize().into())
    }
}
