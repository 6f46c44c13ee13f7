//! The order to stop, in two degrees, for every part that has to end: politely (finish, drain) and now.
//!
//! It knows signals and tokens; it does not know what is being stopped.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// An order to stop that may come. Cheap to clone; all clones see the same order.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    politely: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// An order that comes only when somebody gives it here.
    #[must_use]
    pub fn new() -> Stop {
        Stop::default()
    }

    /// An order that SIGTERM or SIGINT gives; a second one of them means now. Must be called within a runtime; from then on
    /// the two signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the signals cannot be subscribed to.
    pub fn on_signals() -> io::Result<Stop> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = Stop::new();
        let order = stop.clone();
        tokio::spawn(async move {
            while !order.now.is_cancelled() {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    () = order.now.cancelled() => return,
                };
                if order.politely.is_cancelled() {
                    warn!(signal = name, "second signal, stopping now");
                    order.stop_now();
                } else {
                    info!(signal = name, "stopping");
                    order.stop();
                }
            }
        });
        Ok(stop)
    }

    /// Orders a polite stop. Ordering again changes nothing.
    pub fn stop(&self) {
        self.politely.cancel();
    }

    /// Orders to stop at once, which is also a polite order.
    pub fn stop_now(&self) {
        self.politely.cancel();
        self.now.cancel();
    }

    /// Whether any order to stop has come.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.politely.is_cancelled()
    }

    /// Waits for any order to stop. Cancel-safe: nothing is lost when it is dropped.
    pub async fn stopping(&self) {
        self.politely.cancelled().await;
    }

    /// Waits for the order to stop at once. Cancel-safe: nothing is lost when it is dropped.
    pub async fn stopping_now(&self) {
        self.now.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn polite_order_is_not_an_order_to_stop_at_once() {
        let stop = Stop::new();
        let other = stop.clone();
        assert!(!other.is_stopping());
        stop.stop();
        other.stopping().await;
        assert!(other.is_stopping() && !other.now.is_cancelled());
    }

    #[tokio::test]
    async fn order_to_stop_at_once_wakes_those_who_wait_politely() {
        let stop = Stop::new();
        let waiting = stop.clone();
        let waiter = tokio::spawn(async move { waiting.stopping().await });
        stop.stop_now();
        waiter.await.expect("the waiter does not panic");
        stop.stopping_now().await;
    }

    #[tokio::test]
    async fn second_signal_means_now() {
        let stop = Stop::on_signals().expect("signals can be subscribed to");
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).expect("a process may signal itself");
        stop.stopping().await;
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT).expect("a process may signal itself");
        stop.stopping_now().await;
    }
}
