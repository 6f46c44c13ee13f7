//! Collecting pages of a list until there are enough.

use tonic::Status;

use super::failure::Failure;
use super::print::complain;

/// The most a page may hold.
const PAGE: usize = 1_000;

/// The first `limit` items. `page` fetches one page of a size behind a token, and says the next token. Says so on stderr
/// when there are more.
pub(super) async fn collect<T>(
    limit: usize,
    mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Status>,
) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let size = i32::try_from((limit - items.len()).min(PAGE)).expect("a page is small");
        let (more, next) = page(size, token).await?;
        items.extend(more);
        items.truncate(limit);
        token = next;
        if token.is_empty() {
            return Ok(items);
        }
        if items.len() >= limit {
            complain(&format!("cc-executor: only the newest {limit} are shown; ask for more with --limit"));
            return Ok(items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn numbers(limit: usize) -> (Vec<usize>, usize) {
        let mut calls = 0;
        let pages = async |size: i32, token: String| {
            calls += 1;
            let start = token.parse().unwrap_or(0);
            let end = (start + size as usize).min(2_500);
            Ok(((start..end).collect(), if end < 2_500 { end.to_string() } else { String::new() }))
        };
        (collect(limit, pages).await.unwrap(), calls)
    }

    #[tokio::test]
    async fn pages_are_joined_up_to_the_limit() {
        assert_eq!(numbers(10).await, ((0..10).collect(), 1));
        assert_eq!(numbers(1_500).await, ((0..1_500).collect(), 2));
        assert_eq!(numbers(9_999).await, ((0..2_500).collect(), 3));
    }
}
