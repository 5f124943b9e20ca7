//! Every op with arguments that nobody expects: it may refuse them, but the process goes on. `WALLS_CALLS` makes it
//! longer, `WALLS_SEED` another, and `WALLS_OP` is for one op only; with any of the first two, the op at work is named on
//! the way, for when the process does not go on.

use std::io::Write as _;
use std::task::Context;

use deno_core::PollEventLoopOptions;
use futures::task::noop_waker;

use super::*;
use crate::invocation::{Held, HeldBody, Invocation};
use crate::limits::Limits;

/// Ops of the web crates that end the process when they are called with what their own JavaScript never passes: it is all
/// that stands before them. (Two panic on values that have no form in serde, one without a parse before it.)
const FRAGILE: [&str; 3] = ["op_url_get_serialization", "op_urlpattern_parse", "op_urlpattern_process_match_input"];

fn number(name: &str, otherwise: u32) -> (u32, bool) {
    match std::env::var(name).ok().and_then(|text| text.parse().ok()) {
        Some(number) => (number, true),
        None => (otherwise, false),
    }
}

fn run(isolate: &mut Isolate, seed: u32, wanted: &str, calls: u32) -> String {
    let source = include_str!("fuzz.js");
    let script =
        format!("{{ const seed = {seed}, wanted = {wanted:?}, calls = {calls}; globalThis.outcome = {source} }}");
    isolate.with(|runtime| {
        let value = runtime.execute_script("fuzz", script).expect("the fuzzer itself does not fail");
        deno_core::scope!(scope, runtime);
        deno_core::v8::Local::new(scope, value).to_rust_string_lossy(scope)
    })
}

/// An invocation and bodies, so that some of the ids the fuzzer invents find something.
fn give_something(isolate: &mut Isolate) {
    let state = isolate.with(|runtime| runtime.op_state());
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    for body in ["a body", "another"] {
        let body = held.bodies.insert(HeldBody::new(0, full(body))).unwrap();
        let (head, _) = request("GET", "/", "").into_parts();
        let capabilities = Rc::new(Echo::default());
        held.invocations.insert(Invocation::new(head, body, capabilities, &Limits::default())).unwrap();
    }
}

#[test]
fn no_argument_of_any_op_harms_the_process() {
    with_worker(|_| async move {
        let (calls, longer) = number("WALLS_CALLS", 60);
        let (seed, chosen) = number("WALLS_SEED", 2_463_534_242);
        let targets = run(&mut raw_isolate(), seed, "", 0);
        assert!(targets.lines().any(|name| name == "op_fetch bare"), "{targets}");
        let only = std::env::var("WALLS_OP").ok();
        let wanted = |name: &&str| only.as_ref().map_or(!FRAGILE.contains(name), |only| only == name);
        for name in targets.lines().filter(wanted) {
            if longer || chosen {
                writeln!(std::io::stderr(), "seed {seed}: {name}").unwrap();
            }
            let mut isolate = raw_isolate();
            give_something(&mut isolate);
            assert_eq!(run(&mut isolate, seed, name, calls), "called", "{name}");
            // What was begun goes on for a while; an error out of the event loop ends an isolate, no more.
            for _ in 0..20 {
                let waker = noop_waker();
                let _ = isolate.with(|runtime| {
                    runtime.poll_event_loop(&mut Context::from_waker(&waker), PollEventLoopOptions::default())
                });
                tokio::task::yield_now().await;
            }
        }
    });
}
