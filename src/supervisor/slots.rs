//! Who may run now: a bounded number at once, the others in a bounded queue by priority, then by arrival.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The slots of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most_waiting: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    running: usize,
    arrivals: u64,
    waiting: BTreeMap<Place, oneshot::Sender<Slot>>,
}

/// Highest priority first, then first come.
type Place = (Reverse<i32>, u64);

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// A right to run; dropping it lets the next one run.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Inner>);

/// A place in the queue, or a slot already. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Entry {
    slots: Slots,
    place: Place,
    admitted: oneshot::Receiver<Slot>,
}

impl Slots {
    pub(crate) fn new(most_running: usize, most_waiting: usize) -> Slots {
        let queue = Queue { free: most_running, running: 0, arrivals: 0, waiting: BTreeMap::new() };
        Slots(Arc::new(Inner { most_waiting, queue: Mutex::new(queue) }))
    }

    /// Takes a slot, or a place in the queue.
    pub(crate) fn enter(&self, priority: i32) -> Result<Entry, QueueFull> {
        let (admit, admitted) = oneshot::channel();
        let mut queue = self.0.lock();
        if queue.free == 0 && queue.waiting.len() >= self.0.most_waiting {
            return Err(QueueFull);
        }
        queue.arrivals += 1;
        let place = (Reverse(priority), queue.arrivals);
        if queue.free > 0 {
            queue.free -= 1;
            queue.running += 1;
            admit.send(Slot(Arc::clone(&self.0))).expect("the receiver is in this scope");
        } else {
            queue.waiting.insert(place, admit);
        }
        drop(queue);
        Ok(Entry { slots: self.clone(), place, admitted })
    }

    /// How many run, how many wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        let queue = self.0.lock();
        (queue.running, queue.waiting.len())
    }

    fn position(&self, place: Place) -> Option<u32> {
        let queue = self.0.lock();
        queue.waiting.contains_key(&place).then(|| {
            let before = queue.waiting.range(..place).count();
            u32::try_from(before + 1).unwrap_or(u32::MAX)
        })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in the queue somebody waits.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    slots: Slots,
    place: Place,
}

impl Ticket {
    /// From 1; `None` once it has a slot or has left.
    pub(crate) fn position(&self) -> Option<u32> {
        self.slots.position(self.place)
    }
}

impl Entry {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { slots: self.slots.clone(), place: self.place }
    }

    /// Waits for the slot. Cancel-safe: dropping it leaves the queue.
    pub(crate) async fn admitted(mut self) -> Slot {
        (&mut self.admitted).await.expect("the queue keeps the sender until it sends")
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let left = self.slots.0.lock().waiting.remove(&self.place);
        drop(left);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.lock();
            match queue.waiting.pop_first() {
                Some((_, next)) => next,
                None => {
                    queue.free += 1;
                    queue.running -= 1;
                    return;
                }
            }
        };
        // When the next one has just gone, the slot comes back and is dropped in turn.
        let _returned = next.send(Slot(Arc::clone(&self.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    #[test]
    fn the_highest_priority_is_next_then_the_first_come() {
        let slots = Slots::new(1, 10);
        let first = slots.enter(0).unwrap().admitted().now_or_never().unwrap();
        let [low, high, later] = [0, 5, 5].map(|priority| slots.enter(priority).unwrap());
        assert_eq!([&low, &high, &later].map(|entry| entry.ticket().position()), [Some(3), Some(1), Some(2)]);
        drop(first);
        let high = high.admitted().now_or_never().expect("it is next");
        assert_eq!(later.ticket().position(), Some(1));
        drop(high);
        drop(later.admitted().now_or_never().expect("it came before the lower one"));
        drop(low.admitted().now_or_never().expect("nobody else is left"));
        assert_eq!(slots.load(), (0, 0));
    }

    proptest! {
        /// Whatever comes and goes, never do more than allowed run, and no slot is ever lost.
        #[test]
        fn slots_are_neither_lost_nor_made(steps in prop::collection::vec((0u8..3, -2i32..3, any::<prop::sample::Index>()), 0..80)) {
            let slots = Slots::new(3, 5);
            let (mut waiting, mut running): (Vec<Entry>, Vec<Slot>) = (Vec::new(), Vec::new());
            for (step, priority, index) in steps {
                match step {
                    0 => match slots.enter(priority) {
                        Ok(entry) => waiting.push(entry),
                        Err(QueueFull) => prop_assert_eq!(slots.load(), (3, 5)),
                    },
                    1 if !waiting.is_empty() => drop(waiting.swap_remove(index.index(waiting.len()))),
                    2 if !running.is_empty() => drop(running.swap_remove(index.index(running.len()))),
                    _ => {}
                }
                waiting.retain_mut(|entry| match entry.admitted.try_recv() {
                    Ok(slot) => { running.push(slot); false }
                    Err(_) => true,
                });
                prop_assert!(running.len() <= 3);
                prop_assert_eq!(slots.load(), (running.len(), waiting.len()));
            }
            drop((waiting, running));
            prop_assert_eq!(slots.load(), (0, 0));
        }
    }
}
