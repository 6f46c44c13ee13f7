//! What must hold for any bytes that strangers, or a damaged disk, hand to the readers of the project. Shared by the
//! libFuzzer targets and by `tests/fuzz_smoke.rs`. Each check tells whether the input was understood.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cc_executor::execution::log::frame;
use cc_executor::history::filter::{Filter, MAX_BYTES};
use cc_executor::history::page::PageToken;

/// Reads the input as a piece of a log file, then once more as the content of one frame whose checksum is right, which
/// mutations alone would never hit.
pub(crate) fn log_frame(data: &[u8]) -> bool {
    let mut framed = (data.len() as u32).to_le_bytes().to_vec();
    framed.extend(crc32fast::hash(data).to_le_bytes());
    framed.extend(data);
    frames(data) | frames(&framed)
}

/// Whatever is taken for a frame is one: written anew, it reads the same.
fn frames(mut bytes: &[u8]) -> bool {
    let mut understood = false;
    while !bytes.is_empty() {
        let Ok((frame, length)) = frame::decode(bytes) else {
            bytes = &bytes[1..];
            continue;
        };
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(frame::decode(&again), Ok((frame, again.len())));
        bytes = &bytes[length..];
        understood = true;
    }
    understood
}

/// The canonical form of a filter means the same.
pub(crate) fn filter(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(filter) = Filter::parse(text) else { return false };
    let canonical = filter.to_string();
    if canonical.len() <= MAX_BYTES {
        assert_eq!(Filter::parse(&canonical), Ok(filter), "{canonical}");
    }
    true
}

/// Reads the input as a filter, a line break and a token of it, then as the bytes of a token whose checksum is right.
/// What is taken for a token gives its key back.
pub(crate) fn page_token(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return signed_token(data) };
    let (filter, token) = text.split_once('\n').unwrap_or(("", text));
    Filter::parse(filter).is_ok_and(|filter| token_of(token.trim_end(), &filter)) | signed_token(data)
}

fn signed_token(body: &[u8]) -> bool {
    let mut token = vec![1];
    token.extend(crc32fast::hash(body).to_be_bytes());
    token.extend(body);
    token_of(&URL_SAFE_NO_PAD.encode(token), &Filter::default())
}

fn token_of(token: &str, filter: &Filter) -> bool {
    let Ok(key) = PageToken::decode(token, filter) else { return false };
    assert_eq!(PageToken::decode(&PageToken::encode(&key, filter), filter), Ok(key));
    true
}
