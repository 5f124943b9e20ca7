//! Wakes tasks at an instant, to about a tenth of a millisecond.
//!
//! The runtime's own timers have a grain of one millisecond and round up. A simulated round trip of 2 ms has four such
//! roundings on its way and would look like five, so distances are kept by a thread that sleeps on the system's clock.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Longest sleep of the thread, when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// A thread that wakes tasks. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Alarm(Arc<Owner>);

/// Ends the thread when the last alarm is gone.
#[derive(Debug)]
struct Owner(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Bounded by the waits under way: a wait is entered once for each instant it waits for.
    waits: BinaryHeap<Reverse<Wait>>,
    closed: bool,
}

#[derive(Debug)]
struct Wait {
    due: Instant,
    waker: Waker,
}

impl Ord for Wait {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}

impl PartialOrd for Wait {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Wait {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Wait {}

impl Alarm {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = Arc::clone(&shared);
        std::thread::Builder::new().name("alarm".to_owned()).spawn(move || thread.ring())?;
        Ok(Self(Arc::new(Owner(shared))))
    }

    /// Resolves at the instant `due`, never before.
    pub(crate) fn until(&self, due: Instant) -> Until {
        Until { shared: Arc::clone(&self.0.0), due, entered: None }
    }

    /// Resolves after `time`; at once when it is zero.
    pub(crate) fn sleep(&self, time: Duration) -> Until {
        self.until(Instant::now() + time)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let mut queue = self.queue();
        while !queue.closed {
            let now = Instant::now();
            let mut due = Vec::new();
            while queue.waits.peek().is_some_and(|Reverse(wait)| wait.due <= now) {
                due.extend(queue.waits.pop().map(|Reverse(wait)| wait.waker));
            }
            if !due.is_empty() {
                // Whoever is woken may enter a new wait at once.
                drop(queue);
                due.into_iter().for_each(Waker::wake);
                queue = self.queue();
                continue;
            }
            let next = queue.waits.peek().map_or(IDLE, |Reverse(wait)| wait.due.saturating_duration_since(now));
            queue = self
                .changed
                .wait_timeout(queue, next)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
        }
    }

    fn enter(&self, due: Instant, waker: Waker) {
        let mut queue = self.queue();
        let first = queue.waits.peek().is_none_or(|Reverse(wait)| due < wait.due);
        queue.waits.push(Reverse(Wait { due, waker }));
        drop(queue);
        if first {
            self.changed.notify_one();
        }
    }
}

/// A wait. Can be moved and polled again and again; [`Self::reset`] gives it another instant.
#[derive(Debug)]
pub(crate) struct Until {
    shared: Arc<Shared>,
    due: Instant,
    /// Who is woken at `due`.
    entered: Option<Waker>,
}

impl Until {
    /// Waits for `due` from now on. The same instant again changes nothing.
    pub(crate) fn reset(&mut self, due: Instant) {
        if self.due != due {
            self.due = due;
            self.entered = None;
        }
    }
}

impl Future for Until {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.due <= Instant::now() {
            return Poll::Ready(());
        }
        if self.entered.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.shared.enter(self.due, cx.waker().clone());
            self.entered = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_end_in_the_order_of_their_instants_and_never_early() {
        let alarm = Alarm::start().unwrap();
        let start = Instant::now();
        let order = Mutex::new(Vec::new());
        let wait = async |ms: u64| {
            alarm.until(start + Duration::from_millis(ms)).await;
            assert!(start.elapsed() >= Duration::from_millis(ms));
            order.lock().unwrap().push(ms);
        };
        tokio::join!(wait(60), wait(20), wait(0), wait(40));
        assert_eq!(*order.lock().unwrap(), [0, 20, 40, 60]);
    }

    #[tokio::test]
    async fn a_wait_that_is_polled_often_is_entered_once_for_each_instant() {
        let alarm = Alarm::start().unwrap();
        let mut until = alarm.sleep(Duration::from_secs(60));
        for _ in 0..100 {
            assert!(futures::poll!(&mut until).is_pending());
        }
        assert_eq!(alarm.0.0.queue().waits.len(), 1);
        until.reset(Instant::now());
        until.await;
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_last_alarm() {
        let alarm = Alarm::start().unwrap();
        let shared = Arc::downgrade(&alarm.0.0);
        let other = alarm.clone();
        drop(alarm);
        other.sleep(Duration::from_millis(1)).await;
        drop(other);
        while shared.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
