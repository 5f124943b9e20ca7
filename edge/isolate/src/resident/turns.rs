//! The event loop, turn by turn, for as long as a request needs it; and who pays for a turn.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use deno_core::{JsRuntime, PollEventLoopOptions, v8};

use super::Resident;
use super::start::describe;
use crate::fault::Fault;
use crate::invocation::{Held, News};
use crate::limits::Limit;

/// What a turn of the event loop may use at least, so that the rest of a budget can be found used up.
const LEAST_TURN: Duration = Duration::from_millis(1);

impl Resident {
    pub(super) fn keep_looping(self: &Rc<Self>) {
        if self.looping.replace(true) {
            self.wake();
        } else {
            let resident = Rc::clone(self);
            deno_core::unsync::spawn(async move {
                std::future::poll_fn(|cx| resident.poll(cx)).await;
                resident.looping.set(false);
            });
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// One turn of the event loop. Ready when no request needs it any more.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        if !self.is_condemned() {
            self.held(Held::begin_turn);
            let (turn, used) = self.segment(Limit::Cpu, self.budget(), |runtime| {
                self.tell(runtime);
                runtime.poll_event_loop(cx, PollEventLoopOptions::default())
            });
            self.held(|held| held.charge_turn(used, self.limits().time(Limit::Cpu)));
            match turn {
                Poll::Ready(Err(error)) => self.condemn(Fault::Threw(describe(&self.program, &error))),
                // Nothing is left to wait for: who has no answer now gets none.
                Poll::Ready(Ok(())) if !self.is_condemned() => {
                    self.held(Held::exhaust_all);
                    return Poll::Ready(());
                }
                _ => {}
            }
        }
        if let Some(fault) = &*self.condemned.borrow() {
            self.held(|held| match fault {
                Fault::Limit { limit, .. } => held.lose_all(*limit),
                _ => held.exhaust_all(),
            });
            return Poll::Ready(());
        }
        let idle = self.held(|held| held.invocations.len() == 0 && held.news.is_empty());
        if idle { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Tells JavaScript what happened to invocations that it keeps something of.
    fn tell(&self, runtime: &mut JsRuntime) {
        let news = self.held(|held| std::mem::take(&mut held.news));
        if news.is_empty() {
            return;
        }
        deno_core::scope!(scope, runtime);
        v8::tc_scope!(let scope, scope);
        let release = v8::Local::new(scope, &self.release);
        let this = v8::undefined(scope).into();
        for happened in news {
            let (id, gone) = match happened {
                News::Gone(id) => (id, true),
                News::Over(id) => (id, false),
            };
            let arguments = [v8::Integer::new_from_unsigned(scope, id).into(), v8::Boolean::new(scope, gone).into()];
            let _ = release.call(scope, this, &arguments);
        }
    }

    /// What a turn of the event loop may use: what the only request in flight has left, or as much as any may have.
    fn budget(&self) -> Duration {
        let limit = self.limits().time(Limit::Cpu);
        let spent = self.held(|held| {
            let only = if held.invocations.len() == 1 { held.invocations.iter_mut().next() } else { None };
            only.map(|invocation| invocation.cpu)
        });
        limit.saturating_sub(spent.unwrap_or_default()).max(LEAST_TURN)
    }
}
