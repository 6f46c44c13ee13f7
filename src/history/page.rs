//! Where a listing goes on: the key in domain terms, and the opaque token that carries it over the wire.
//!
//! A token is bound to its filter, since a key says nothing about records another filter would have shown before it.
//! Tokens are not secret and not signed: a forged one can only name a place in a list its owner may read anyway.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::filter::Filter;
use crate::execution::{ExecutionId, Snapshot};

/// The place of a run in a listing: what comes after it was created earlier, or in the same instant with a smaller id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey {
    /// When the run was accepted.
    pub created: Timestamp,
    /// The run.
    pub id: ExecutionId,
}

/// Writes and reads tokens. The bytes behind the base64url are
/// version (1), CRC-32 of all that follows (4), digest of the filter (8), nanoseconds since the epoch (16), id.
#[derive(Debug)]
pub struct PageToken;

/// Why a text is not a token for this listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageTokenError {
    /// It was not made by us, or not by a version this one understands, or it was cut or changed on its way.
    #[error("is not a token of this service")]
    Malformed,
    /// It belongs to a listing with another filter.
    #[error("belongs to another filter")]
    OtherFilter,
}

const VERSION: u8 = 1;
/// Longer than any token of ours, so that garbage costs nothing.
const MAX_CHARACTERS: usize = 256;

impl PageKey {
    /// The place of this run.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> PageKey {
        PageKey { created: snapshot.created, id: snapshot.id.clone() }
    }
}

impl PageToken {
    /// The token that continues behind `key` in the listing of `filter`; at most 212 characters of `[A-Za-z0-9_-]`.
    #[must_use]
    pub fn encode(key: &PageKey, filter: &Filter) -> String {
        let mut body = Vec::from(digest(filter));
        body.extend(key.created.as_nanosecond().to_be_bytes());
        body.extend(key.id.as_str().as_bytes());
        let mut token = vec![VERSION];
        token.extend(crc32fast::hash(&body).to_be_bytes());
        token.extend(body);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The key in `text`, provided it continues a listing of `filter`.
    ///
    /// # Errors
    /// See [`PageTokenError`]; any text is safe to pass.
    pub fn decode(text: &str, filter: &Filter) -> Result<PageKey, PageTokenError> {
        let (bound_to, key) = parse(text).ok_or(PageTokenError::Malformed)?;
        if bound_to == digest(filter) { Ok(key) } else { Err(PageTokenError::OtherFilter) }
    }
}

fn parse(text: &str) -> Option<([u8; 8], PageKey)> {
    if text.len() > MAX_CHARACTERS {
        return None;
    }
    let token = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (&version, rest) = token.split_first()?;
    let (checksum, body) = rest.split_first_chunk::<4>()?;
    if version != VERSION || u32::from_be_bytes(*checksum) != crc32fast::hash(body) {
        return None;
    }
    let (filter, body) = body.split_first_chunk::<8>()?;
    let (created, id) = body.split_first_chunk::<16>()?;
    let created = Timestamp::from_nanosecond(i128::from_be_bytes(*created)).ok()?;
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    Some((*filter, PageKey { created, id }))
}

fn digest(filter: &Filter) -> [u8; 8] {
    let digest = Sha256::digest(filter.to_string());
    *digest.first_chunk().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::sample;

    fn key() -> impl Strategy<Value = PageKey> {
        ("[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", any::<i64>()).prop_map(|(id, created)| PageKey {
            created: Timestamp::from_nanosecond(created.into()).expect("within range"),
            id: id.parse().expect("a valid id"),
        })
    }

    proptest! {
        #[test]
        fn a_token_gives_back_its_key(key in key(), filter in sample::filter()) {
            let token = PageToken::encode(&key, &filter);
            prop_assert!(token.len() <= 212);
            prop_assert_eq!(PageToken::decode(&token, &filter), Ok(key));
        }

        #[test]
        fn a_token_is_bound_to_its_filter(key in key(), one in sample::filter(), other in sample::filter()) {
            prop_assume!(one != other);
            let token = PageToken::encode(&key, &one);
            prop_assert_eq!(PageToken::decode(&token, &other), Err(PageTokenError::OtherFilter));
        }

        #[test]
        fn a_cut_or_changed_token_is_malformed(key in key(), at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_-]") {
            let filter = Filter::default();
            let token = PageToken::encode(&key, &filter);
            let at = at.index(token.len());
            prop_assert_eq!(PageToken::decode(&token[..at], &filter), Err(PageTokenError::Malformed));
            let mut changed = token.clone();
            changed.replace_range(at..=at, &with);
            prop_assume!(changed != token);
            prop_assert_eq!(PageToken::decode(&changed, &filter), Err(PageTokenError::Malformed));
        }

        #[test]
        fn garbage_is_malformed(text in any::<String>()) {
            prop_assert_eq!(PageToken::decode(&text, &Filter::default()), Err(PageTokenError::Malformed));
        }
    }

    #[test]
    fn every_spelling_of_a_filter_shares_its_tokens() {
        let spelled = |text| Filter::parse(text).expect("it parses");
        let key = PageKey { created: sample::instant(5), id: "a".parse().expect("a valid id") };
        let token = PageToken::encode(&key, &spelled("exit_code=1 success=true"));
        assert_eq!(PageToken::decode(&token, &spelled("exit_code = 1 AND success = TRUE")), Ok(key));
    }
}
