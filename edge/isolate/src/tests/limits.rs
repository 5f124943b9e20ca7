use super::*;
use crate::limits::{Limit, TABLE};

/// For every limit, a function that breaks it.
fn breakers() -> Vec<(Limit, Arc<Program>)> {
    vec![
        (Limit::Cpu, handler("for (;;) {}")),
        (Limit::Cpu, handler("const f = () => Promise.resolve().then(f); await f()")),
        (Limit::Cpu, handler("await new Promise(r => setTimeout(r, 1)); for (;;) {}")),
        (Limit::Cpu, handler("return new Response(String(/^(a+)+$/.test('a'.repeat(40) + 'b')))")),
        (Limit::Startup, program_of(&[("index.js", "for (;;) {}; export default {}")], &[("startup_ms", 50)])),
        (Limit::Wall, handler_with("await fetch('http://o/slow')", &[("wall_ms", 50)])),
        (
            Limit::Heap,
            handler_with(
                "const a = []; for (;;) a.push(new Array(1000).fill(a.length))",
                &[("heap_bytes", 32 << 20), ("cpu_ms", 20_000)],
            ),
        ),
        (
            Limit::Heap,
            handler_with(
                "let s = 'x'; for (;;) s = s + s.slice(1) + JSON.stringify({ s })",
                &[("heap_bytes", 32 << 20), ("cpu_ms", 20_000)],
            ),
        ),
        (
            Limit::Buffers,
            handler_with("const a = []; for (;;) a.push(new Uint8Array(1 << 20))", &[("buffer_bytes", 8 << 20)]),
        ),
        (Limit::Buffers, handler_with("return new Response(new Uint8Array(1 << 30))", &[("buffer_bytes", 8 << 20)])),
        (Limit::Subrequests, handler_with("for (;;) await fetch('http://o/')", &[("subrequests", 3)])),
        (Limit::ResponseBody, handler_with("return new Response('x'.repeat(2000))", &[("response_body_bytes", 1000)])),
    ]
}

#[test]
fn every_breaker_meets_its_limit_and_the_next_request_is_answered() {
    with_worker(|worker| async move {
        for (limit, program) in breakers() {
            let fault = fault(&worker, &program).await;
            assert!(matches!(fault, Fault::Limit { limit: found, .. } if found == limit), "{limit:?}: {fault:?}");
            assert_eq!(fault.code(), limit.row().code);
            assert_eq!(text(&worker, "return new Response('alive')").await, "alive", "after {limit:?}");
        }
    });
}

#[test]
fn no_limit_is_without_a_test() {
    let elsewhere = [
        Limit::RequestBody, // the PoP enforces it before the function sees the body: tests/suite
        Limit::Concurrency, // below
        Limit::WaitUntil,   // below
        Limit::Log,         // below
    ];
    for row in TABLE {
        let tested = elsewhere.contains(&row.limit) || breakers().iter().any(|(limit, _)| *limit == row.limit);
        assert!(tested, "limit {} has no function that breaks it", row.key);
    }
}

#[test]
fn a_streamed_response_over_its_limit_breaks_off() {
    with_worker(|worker| async move {
        let program = handler_with(
            "return new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(600)) } }))",
            &[("response_body_bytes", 1000)],
        );
        let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        assert!(answer.body.unwrap_err().contains("1000 bytes"));
    });
}

#[test]
fn requests_over_the_concurrency_of_a_function_are_turned_away() {
    with_worker(|worker| async move {
        let program = handler_with(
            "await new Promise(r => setTimeout(r, 100)); return new Response('done')",
            &[("concurrency", 2)],
        );
        let asked = (0..3).map(|_| ask(&worker, &program, request("GET", "/", "")));
        let answers = futures::future::join_all(asked).await;
        let refused: Vec<_> = answers.iter().filter_map(|a| a.as_ref().err()).map(|f| f.fault.code()).collect();
        assert_eq!(refused, ["limit/concurrency"]);
    });
}

#[test]
fn what_waits_after_the_answer_is_given_up_at_its_limit() {
    with_worker(|worker| async move {
        let program = handler_with(
            "ctx.waitUntil(new Promise(r => setTimeout(r, 60000))); return new Response('')",
            &[("wait_until_ms", 20)],
        );
        let echo = Rc::new(Echo::default());
        let invoked = worker.invoke(&program, request("GET", "/", ""), Rc::clone(&echo) as _).await;
        drop(invoked);
        for _ in 0..200 {
            if !echo.log.borrow().is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(echo.log.borrow()[0].contains("waitUntil"), "{:?}", echo.log.borrow());
    });
}

#[test]
fn a_log_over_its_limit_is_cut_off() {
    with_worker(|worker| async move {
        let program = handler_with(
            "for (let i = 0; i < 100; i++) console.log('0123456789'); return new Response('')",
            &[("log_bytes", 35)],
        );
        let log = ask(&worker, &program, request("GET", "/", "")).await.unwrap().log;
        assert!(log.len() == 4 && log[3].contains("log_bytes"), "{log:?}");
    });
}

#[test]
fn others_on_the_thread_go_on_while_one_is_ended() {
    with_worker(|worker| async move {
        let spinning = handler("await new Promise(r => setTimeout(r, 1)); for (;;) {}");
        let spin = fault(&worker, &spinning);
        let fine = text(&worker, "await new Promise(r => setTimeout(r, 30)); return new Response('fine')");
        let (fault, fine) = futures::join!(spin, fine);
        assert_eq!((fault.code(), fine.as_str()), ("limit/cpu", "fine"));
    });
}

/// V8 15.0 compiled the first of these without an interrupt check (see `Platform::start`).
#[test]
fn loops_around_array_fill_can_be_ended() {
    with_worker(|worker| async move {
        for body in [
            "for (;;) new Array(1000).fill(7)",
            "for (;;) { const a = [1, 2, 3]; a.fill(1) }",
            "for (;;) new Uint8Array(10).fill(1)",
            "for (;;) { for (let i = 0; i < 4; i++) globalThis.x = i }",
            "for (;;) [3, 1].map((x) => x + 1).sort()",
        ] {
            assert_eq!(fault(&worker, &handler(body)).await.code(), "limit/cpu", "{body}");
        }
    });
}

#[test]
fn memory_that_ops_hand_in_counts_as_buffers() {
    with_worker(|worker| async move {
        for body in [
            "const s = 'x'.repeat(1 << 20); const a = []; for (;;) a.push(new TextEncoder().encode(s))",
            "const a = []; for (;;) a.push(new WebAssembly.Memory({ initial: 64 }))",
        ] {
            let program = handler_with(body, &[("buffer_bytes", 8 << 20), ("cpu_ms", 2_000)]);
            assert_eq!(fault(&worker, &program).await.code(), "limit/buffers", "{body}");
        }
        let program = handler_with("return new Response(await request.text())", &[("buffer_bytes", 1 << 20)]);
        let large = request("POST", "/", &"x".repeat(2 << 20));
        assert_eq!(ask(&worker, &program, large).await.unwrap_err().fault.code(), "limit/buffers");
        let small = request("POST", "/", &"x".repeat(1 << 19));
        assert_eq!(ask(&worker, &program, small).await.unwrap().body.unwrap().len(), 1 << 19);
    });
}

#[test]
fn garbage_does_not_count_and_an_ordinary_error_stays_one() {
    with_worker(|worker| async move {
        let program = handler_with(
            "for (let i = 0; i < 200; i++) new Uint8Array(1 << 20); throw new Error('ordinary')",
            &[("buffer_bytes", 8 << 20), ("cpu_ms", 5_000)],
        );
        assert_eq!(fault(&worker, &program).await.code(), "function/threw");
    });
}

#[test]
fn more_header_fields_than_http_carries_are_an_error_and_not_the_end() {
    with_worker(|worker| async move {
        let many = "const h = []; for (let i = 0; i < 40000; i++) h.push([`a${i}`, '1']);";
        let answered = handler_with(&format!("{many} return new Response('', {{ headers: h }})"), &[("cpu_ms", 5_000)]);
        assert_eq!(fault(&worker, &answered).await.code(), "function/invalid-response");
        let fetched = handler_with(
            &format!(
                "{many} try {{ await fetch('http://o/', {{ headers: h }}) }} catch (e) {{ return new Response(e.name) }}"
            ),
            &[("cpu_ms", 5_000)],
        );
        assert_eq!(ask(&worker, &fetched, request("GET", "/", "")).await.unwrap().body.unwrap(), "TypeError");
    });
}

#[test]
fn a_thread_never_sleeps_inside_javascript() {
    with_worker(|worker| async move {
        let body = "const m = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }); Atomics.wait(new Int32Array(m.buffer), 0, 0, 5000); return new Response('')";
        let began = std::time::Instant::now();
        assert_eq!(fault(&worker, &handler(body)).await.code(), "function/threw");
        assert!(began.elapsed() < std::time::Duration::from_secs(4));
    });
}
