//! From a blank isolate to a handler that can be called.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use deno_core::error::{CoreError, CoreErrorKind};
use deno_core::{JsRuntime, PollEventLoopOptions, v8};

use super::Resident;
use crate::fault::Fault;
use crate::limits::Limit;
use crate::program::{Program, readable, specifier};
use crate::worker::Start;

impl Resident {
    pub(super) async fn start(&self) -> Result<Start, Fault> {
        let began = Instant::now();
        let main = specifier(&self.program.main).map_err(Fault::Boot)?;
        let budget = self.program.limits.time(Limit::Startup);
        let mut spent = Duration::ZERO;
        // The loader answers at once, so that loading never waits and needs one poll.
        let (loaded, used) = self.segment(Limit::Startup, budget, |runtime| {
            let mut load = pin!(runtime.load_main_es_module(&main));
            match load.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(id)) => Ok(id),
                Poll::Ready(Err(error)) => Err(describe(&self.program, &error)),
                Poll::Pending => Err("its modules did not load at once".to_owned()),
            }
        });
        spent += used;
        let id = self.or_condemned(loaded)?;
        let compile = began.elapsed();
        let (mut evaluation, used) = self.segment(Limit::Startup, budget.saturating_sub(spent), |runtime| {
            Box::pin(runtime.mod_evaluate(id)) as Pin<Box<dyn Future<Output = Result<(), CoreError>>>>
        });
        spent += used;
        // Tokio has what it polls wait when the task has done much. An evaluation that waits for that would look like one that
        // waits for nothing.
        let evaluated = tokio::time::timeout(
            self.program.limits.time(Limit::Wall),
            tokio::task::coop::unconstrained(std::future::poll_fn(|cx| {
                let left = budget.saturating_sub(spent);
                let (polled, used) = self.segment(Limit::Startup, left, |runtime| {
                    let ticked = runtime.poll_event_loop(cx, PollEventLoopOptions::default());
                    match evaluation.as_mut().poll(cx) {
                        Poll::Ready(result) => Poll::Ready(result.map_err(|error| describe(&self.program, &error))),
                        Poll::Pending => match ticked {
                            Poll::Ready(Err(error)) => Poll::Ready(Err(describe(&self.program, &error))),
                            Poll::Ready(Ok(())) => {
                                Poll::Ready(Err("its top level awaits something that can never happen".to_owned()))
                            }
                            Poll::Pending => Poll::Pending,
                        },
                    }
                });
                spent += used;
                if self.condemned.borrow().is_some() { Poll::Ready(Ok(())) } else { polled }
            })),
        );
        let evaluated = evaluated.await.unwrap_or_else(|_| Err("its top level awaits for too long".to_owned()));
        self.or_condemned(evaluated)?;
        let (connected, _) =
            self.segment(Limit::Startup, budget.saturating_sub(spent), |runtime| self.connect(runtime, id));
        self.or_condemned(connected)?;
        let code_cache = self.blank.borrow().loader.started();
        Ok(Start { compile, evaluate: began.elapsed() - compile, code_cache, ..Start::default() })
    }

    fn or_condemned<T>(&self, result: Result<T, String>) -> Result<T, Fault> {
        match &*self.condemned.borrow() {
            Some(fault) => Err(fault.clone()),
            None => result.map_err(Fault::Boot),
        }
    }

    /// Calls `boot(namespace, bindings)` of the runtime's JavaScript.
    fn connect(&self, runtime: &mut JsRuntime, id: deno_core::ModuleId) -> Result<(), String> {
        let namespace = runtime.get_module_namespace(id).map_err(|error| describe(&self.program, &error))?;
        deno_core::scope!(scope, runtime);
        let boot = v8::Local::new(scope, &self.boot);
        let namespace = v8::Local::new(scope, namespace);
        let bindings = v8::String::new(scope, &self.program.bindings).ok_or("its bindings are too large")?;
        let this = v8::undefined(scope).into();
        match boot.call(scope, this, &[namespace.into(), bindings.into()]) {
            Some(answer) => {
                let problem = answer.to_rust_string_lossy(scope);
                if problem.is_empty() { Ok(()) } else { Err(format!("{}: {problem}", self.program.main)) }
            }
            None => Err("its default export cannot be read".to_owned()),
        }
    }
}

/// An error of the function, as its author wants to read it: message, place, source line with a mark under the column.
pub(super) fn describe(program: &Program, error: &CoreError) -> String {
    let CoreErrorKind::Js(js) = error.as_kind() else { return readable(&error.to_string()) };
    let mut text = readable(&js.exception_message);
    let frame = js.frames.iter().find(|frame| frame.file_name.as_ref().is_some_and(|file| file.starts_with("file:")));
    if let Some(frame) = frame
        && let (Some(file), Some(line)) = (&frame.file_name, frame.line_number)
    {
        let (file, column) = (readable(file), frame.column_number.unwrap_or(1));
        let place = format!("{file}:{line}:{column}");
        if !text.contains(&place) {
            text.push_str(&format!("\n    at {place}"));
        }
        if let Some(source) = program.source_line(&file, line) {
            let mark = " ".repeat(usize::try_from(column - 1).unwrap_or(0).min(source.len()));
            text.push_str(&format!("\n    {source}\n    {mark}^"));
        }
    }
    text
}
