//! The outermost layer: what the transport says in its own words is said in ours, a call that is not answered by its
//! own deadline is DEADLINE_EXCEEDED, and a panic in a handler becomes an INTERNAL with an incident id instead of a
//! broken connection.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::status;

/// The largest request, bytes.
pub(super) const MAX_REQUEST_BYTES: usize = 4 << 20;

/// How much earlier than the transport we end a call at its deadline: the transport would say CANCELLED.
const AHEAD: Duration = Duration::from_millis(1);

/// Wraps all services.
#[derive(Clone, Copy, Debug)]
pub struct GuardLayer;

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard(inner)
    }
}

/// A service that answers in our words.
#[derive(Clone, Debug)]
pub struct Guard<S>(S);

impl<S, B> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let time = time_left(request.headers());
        let response = AssertUnwindSafe(self.0.call(request)).catch_unwind();
        Box::pin(async move {
            match tokio::time::timeout(time, response).await {
                Ok(Ok(Ok(response))) => Ok(in_our_words(response)),
                Ok(Ok(Err(infallible))) => match infallible {},
                Ok(Err(panic)) => Ok(status::internal(&message(&panic)).into_http()),
                Err(_elapsed) => Ok(status::too_late().into_http()),
            }
        })
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a handler panicked".to_owned())
}

/// How long the caller waits for an answer: up to eight digits and a unit.
fn time_left(headers: &HeaderMap) -> Duration {
    let parse = || {
        let text = headers.get("grpc-timeout")?.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let count: u32 = digits.parse().ok()?;
        let unit = match unit {
            "H" => Duration::from_secs(60 * 60),
            "M" => Duration::from_secs(60),
            "S" => Duration::from_secs(1),
            "m" => Duration::from_millis(1),
            "u" => Duration::from_micros(1),
            "n" => Duration::from_nanos(1),
            _ => return None,
        };
        Some((unit * count).saturating_sub(AHEAD))
    };
    parse().unwrap_or(Duration::MAX)
}

/// Replaces the refusals that the transport makes before any handler sees a request: it knows no details.
fn in_our_words(response: Response<Body>) -> Response<Body> {
    let Some(refusal) = Status::from_header_map(response.headers()).filter(|status| status.details().is_empty()) else {
        return response;
    };
    match refusal.code() {
        Code::OutOfRange | Code::ResourceExhausted => status::too_large(MAX_REQUEST_BYTES).into_http(),
        Code::Internal => status::malformed().into_http(),
        Code::Unknown => status::internal(refusal.message()).into_http(),
        _ => response,
    }
}
