use std::time::Duration;

use super::*;

/// Runs a handler with this body on a thread that may be lost. What came first: its loss, or its answer.
fn lose(body: &'static str, changes: &'static [(&'static str, u64)]) -> Result<Loss, String> {
    let (sender, first) = mpsc::channel();
    let answered = sender.clone();
    let job = move |platform| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let watchdog = Watchdog::start().unwrap().telling(move |loss| sender.send(Ok(loss)).unwrap());
        runtime.block_on(async {
            let worker = Worker::new(platform, &watchdog, Config { ready: 0, ..Config::default() });
            let answer = ask(&worker, &handler_with(body, changes), request("GET", "/", "")).await;
            let _ = answered.send(Err(format!("{answer:?}")));
        });
    };
    ROOT.send(Box::new(job)).unwrap();
    first.recv_timeout(Duration::from_secs(60)).expect("it answers or is lost")
}

#[test]
fn what_v8_ends_the_process_for_costs_a_worker_and_no_more() {
    // A process that is alive at the end of this test is the proof: V8 aborts after each of these.
    for body in [
        "return new Response('A'.repeat(2e8).match(/A/g).length)",
        "return new Response('ab'.repeat(1 << 26).replaceAll('a', 'xyz').length)",
    ] {
        let loss = lose(body, &[]).unwrap_or_else(|answer| panic!("{body}: {answer}"));
        // On a slow machine the collections on the way there last longer than a worker is waited for.
        assert!(matches!(loss.cause, Cause::Exhausted(_) | Cause::Stuck), "{body}: {:?}", loss.cause);
        assert!(loss.program.is_some_and(|program| program.modules["index.js"].source.contains(body)), "{body}");
    }
    with_worker(|worker| async move {
        assert_eq!(text(&worker, "return new Response('alive')").await, "alive");
    });
}

#[test]
fn a_native_call_that_does_not_end_costs_a_worker() {
    let body = "'a'.repeat(1e6).lastIndexOf('a'.repeat(1e4) + 'b')";
    let loss = lose(body, &[]).unwrap_or_else(|answer| panic!("{answer}"));
    assert_eq!(loss.cause, Cause::Stuck);
}

#[test]
fn what_can_be_ended_costs_no_worker() {
    for body in ["for (;;) {}", "const all = []; for (;;) all.push(new Array(1000).fill(7))", "'x'.repeat(1e9)"] {
        let answer = lose(body, &[]).expect_err(body);
        assert!(answer.starts_with("Err") || answer.starts_with("Ok"), "{body}: {answer}");
    }
}
