//! Where blank isolates come from: a thread beside the worker, behind it in line for the processor.
//!
//! Making one takes V8 milliseconds in one piece. On the worker's own thread every request would wait for that which comes
//! meanwhile, and with a hundred starts in a second that is every other.

use std::thread;

use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use crate::blank::Blank;
use crate::entered::InTransit;
use crate::platform::STACK_BYTES;
use crate::turns::step_back;

/// The thread that makes the isolates of one worker. It ends with it.
pub(crate) struct Maker(mpsc::UnboundedSender<oneshot::Sender<InTransit>>);

impl Maker {
    /// Starts the thread. `None` where there cannot be one: isolates are made where they are used then.
    pub(crate) fn start() -> Option<Self> {
        if !InTransit::IS_POSSIBLE {
            return None;
        }
        let (sender, mut orders) = mpsc::unbounded_channel::<oneshot::Sender<InTransit>>();
        // V8 may ask for something to be done later, which this runtime does.
        let runtime = runtime::Builder::new_current_thread().enable_time().build().ok()?;
        let body = move || {
            step_back();
            runtime.block_on(async {
                while let Some(order) = orders.recv().await {
                    // Nobody waits for it any more when the worker has ended.
                    let _ = order.send(InTransit::new(Blank::new()));
                }
            });
        };
        let thread = thread::Builder::new().name("isolates".to_owned()).stack_size(STACK_BYTES).spawn(body);
        thread.is_ok().then_some(Self(sender))
    }

    /// A new blank isolate, for the calling thread; `None` when the maker has ended.
    pub(crate) async fn make(&self) -> Option<Blank> {
        let (order, made) = oneshot::channel();
        self.0.send(order).ok()?;
        made.await.ok().map(InTransit::arrive)
    }
}
