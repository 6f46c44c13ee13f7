//! Showing a run until it ends: what `run`, `attach` and `logs` have in common.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::failure::Failure;
use super::follow::Follower;
use super::view::View;
use crate::proto::Outcome;
use crate::proto::execution_event::Event;

/// Between two drawings of the status line.
const FRAME: Duration = Duration::from_millis(200);

/// Shows all events. The outcome is there exactly when the run has ended; `accepted` is called once the server knows the run.
pub(super) async fn to_end(
    follower: &mut Follower,
    view: &mut View,
    accepted: impl FnOnce(),
) -> Result<Option<Outcome>, Failure> {
    let mut accepted = Some(accepted);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = follower.next() => {
                let Some(event) = event? else { return Ok(None) };
                view.show(&event).await?;
                if let Some(accepted) = accepted.take() {
                    accepted();
                }
                if let Some(Event::Completed(completed)) = event.event {
                    return Ok(Some(completed.outcome.unwrap_or_default()));
                }
            }
            _ = frames.tick() => view.tick(follower.is_connected()),
        }
    }
}
