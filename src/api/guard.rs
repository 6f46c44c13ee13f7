//! The outermost layer: what the transport says in its own words is said in ours, and a panic in a handler becomes an
//! INTERNAL with an incident id instead of a broken connection.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use tonic::Code;
use tonic::body::Body;
use tower::{Layer, Service};

use super::status;

/// The largest request, bytes.
pub(super) const MAX_REQUEST_BYTES: usize = 4 << 20;

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
        let response = AssertUnwindSafe(self.0.call(request)).catch_unwind();
        Box::pin(async move {
            match response.await {
                Ok(Ok(response)) => Ok(in_our_words(response)),
                Ok(Err(infallible)) => match infallible {},
                Err(panic) => Ok(status::internal(&message(&panic)).into_http()),
            }
        })
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a handler panicked".to_owned())
}

/// Replaces the refusals that the transport makes before any handler sees a request.
fn in_our_words(response: Response<Body>) -> Response<Body> {
    match refusal(response.headers()) {
        Some((Code::OutOfRange, text)) if text.contains("message length too large") => {
            status::too_large(MAX_REQUEST_BYTES).into_http()
        }
        Some((Code::Internal, text)) if text.starts_with("failed to decode") => status::malformed().into_http(),
        Some((Code::Unknown, text)) => status::internal(&text).into_http(),
        _ => response,
    }
}

/// The status of a response that has nothing but a status.
fn refusal(headers: &HeaderMap) -> Option<(Code, String)> {
    let status = tonic::Status::from_header_map(headers)?;
    Some((status.code(), status.message().to_owned()))
}
