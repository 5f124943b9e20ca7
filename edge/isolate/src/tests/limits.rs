use super::*;
use crate::limits::{Limit, TABLE};

/// Meets a limit with functions that break it, each in its own way. A row without an arm does not compile.
async fn break_limit(worker: &Worker, limit: Limit) {
    let bodies: &[&str] = match limit {
        Limit::Cpu => &[
            "for (;;) {}",
            "const f = () => Promise.resolve().then(f); await f()",
            "await new Promise(r => setTimeout(r, 1)); for (;;) {}",
            "return new Response(String(/^(a+)+$/.test('a'.repeat(40) + 'b')))",
        ],
        Limit::Startup => {
            let program = program_of(&[("index.js", "for (;;) {}; export default {}")], &[("startup_ms", 50)]);
            return meets(worker, limit, &program).await;
        }
        Limit::Wall => &["await fetch('http://o/slow')"],
        Limit::Heap => &[
            "const a = []; for (;;) a.push(new Array(1000).fill(a.length))",
            "let s = 'x'; for (;;) s = s + s.slice(1) + JSON.stringify({ s })",
        ],
        Limit::Buffers => &[
            "const a = []; for (;;) a.push(new Uint8Array(1 << 20))",
            "return new Response(new Uint8Array(1 << 30))",
            "const s = 'x'.repeat(1 << 20); const a = []; for (;;) a.push(new TextEncoder().encode(s))",
        ],
        Limit::Wasm => &[
            "const a = []; for (;;) a.push(new WebAssembly.Memory({ initial: 16 }))",
            "new WebAssembly.Memory({ initial: 200 })",
            "const m = new WebAssembly.Memory({ initial: 1 }); for (;;) m.grow(1)",
            "new WebAssembly.Memory({ address: 'i64', initial: 200n })",
            GROWS,
        ],
        Limit::Stack => &["const f = () => f() + 1; return f()"],
        Limit::Subrequests => &[
            "for (;;) await fetch('http://o/')",
            "for (;;) await caches.default.match('http://o/')",
            "for (;;) await caches.default.put('http://o/', new Response('x'))",
            "const cache = await caches.open('a'); for (;;) await cache.delete('http://o/')",
        ],
        Limit::Connections => return others_wait(worker).await,
        Limit::Pending => &[
            "for (;;) setTimeout(() => {}, 1e6)",
            "for (;;) setInterval(() => {}, 1e6)",
            "const a = []; for (let i = 0; i < 40; i++) a.push(fetch('http://o/slow')); await Promise.all(a)",
            "const a = []; for (let i = 0; i < 40; i++) a.push(crypto.subtle.digest('SHA-256', new Uint8Array(9))); await Promise.all(a)",
            "const a = []; for (let i = 0; i < 40; i++) { const t = new IdentityTransformStream(); a.push(fetch('http://o/slow', { method: 'POST', body: t.readable })) } await Promise.all(a)",
        ],
        // The PoP counts it before the function sees it: see tests/tests/suite/limits.rs, which walks the table, too.
        Limit::RequestBody => return,
        Limit::ResponseBody => &["return new Response('x'.repeat(2000))"],
        Limit::Headers => &[
            "return new Response('', { headers: { a: 'x'.repeat(2000) } })",
            "const h = []; for (let i = 0; i < 500; i++) h.push([`a${i}`, '1']); return new Response('', { headers: h })",
            "await fetch('http://o/', { headers: { a: 'x'.repeat(2000) } })",
        ],
        Limit::Concurrency => return turned_away(worker).await,
        Limit::WaitUntil => return given_up(worker).await,
        Limit::Log => return cut_off(worker).await,
    };
    let low: &[(&'static str, u64)] = match limit {
        Limit::Heap => &[("heap_bytes", 32 << 20), ("cpu_ms", 20_000)],
        Limit::Buffers => &[("buffer_bytes", 8 << 20), ("cpu_ms", 2_000)],
        Limit::Wasm => &[("wasm_bytes", 8 << 20), ("cpu_ms", 2_000)],
        Limit::Wall => &[("wall_ms", 50)],
        Limit::Subrequests => &[("subrequests", 3)],
        Limit::Pending => &[("pending", 20), ("cpu_ms", 1_000)],
        Limit::ResponseBody => &[("response_body_bytes", 1_000)],
        Limit::Headers => &[("header_bytes", 1_000)],
        _ => &[],
    };
    for body in bodies {
        meets(worker, limit, &handler_with(body, low)).await;
    }
}

/// Grows a memory from within WebAssembly, where only its bytes can be counted afterwards.
const GROWS: &str = "const module = new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127,
    3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 9, 2, 1, 109, 2, 0, 1, 103, 0, 0, 10, 8, 1, 6, 0, 32, 0, 64, 0, 11]));
    const { g, m } = new WebAssembly.Instance(module).exports; g(500); globalThis.kept = m; return new Response(String(m.buffer.byteLength))";

async fn meets(worker: &Worker, limit: Limit, program: &Arc<Program>) {
    let source = &*program.modules["index.js"].source;
    let fault = fault(worker, program).await;
    assert!(matches!(fault, Fault::Limit { limit: found, .. } if found == limit), "{limit:?}: {source}: {fault:?}");
    assert_eq!((fault.code(), fault.status()), (limit.row().code, limit.row().status()));
}

#[test]
fn every_row_of_the_table_holds_and_the_next_request_is_answered() {
    with_worker(|worker| async move {
        for row in &TABLE {
            break_limit(&worker, row.limit).await;
            assert_eq!(text(&worker, "return new Response('alive')").await, "alive", "after {}", row.key);
        }
    });
}

/// A seventh `fetch()` waits, as in Workers, until one of six has its response.
async fn others_wait(worker: &Worker) {
    for most in [1, 2, 6] {
        let program = handler_with(
            "const all = await Promise.all(Array.from({ length: 9 }, () => fetch('http://o/brief'))); return new Response(all.map((r) => r.status))",
            &[("connections", most as u64)],
        );
        let echo = Rc::new(Echo::default());
        let invoked = worker.invoke(&program, request("GET", "/", ""), Rc::clone(&echo) as _).await;
        let body = invoked.result.unwrap().into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert_eq!((&*body, echo.fetching.get()), (&*["200"; 9].join(","), (0, most)));
    }
}

/// What aborts while it waits for its turn does not take the turn.
#[test]
fn a_fetch_that_waits_for_its_turn_can_be_aborted() {
    with_worker(|worker| async move {
        let program = handler_with(
            "const abort = new AbortController(); const first = fetch('http://o/brief');
             const second = fetch('http://o/', { signal: abort.signal }).catch((e) => e.name); abort.abort();
             const out = [await second]; const third = fetch('http://o/third'); out.push((await first).status, (await third).status);
             return new Response(out)",
            &[("connections", 1)],
        );
        let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        assert_eq!(answer.body.unwrap(), "AbortError,200,200");
    });
}

async fn turned_away(worker: &Worker) {
    let program =
        handler_with("await new Promise(r => setTimeout(r, 100)); return new Response('done')", &[("concurrency", 2)]);
    let asked = (0..3).map(|_| ask(worker, &program, request("GET", "/", "")));
    let answers = futures::future::join_all(asked).await;
    let refused: Vec<_> = answers.iter().filter_map(|a| a.as_ref().err()).map(|f| f.fault.code()).collect();
    assert_eq!(refused, ["limit/concurrency"]);
}

async fn given_up(worker: &Worker) {
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
}

async fn cut_off(worker: &Worker) {
    let program = handler_with(
        "for (let i = 0; i < 100; i++) console.log('0123456789'); return new Response('')",
        &[("log_bytes", 35)],
    );
    let log = ask(worker, &program, request("GET", "/", "")).await.unwrap().log;
    assert!(log.len() == 4 && log[3].contains("log_bytes"), "{log:?}");
}

/// What is within a limit is not held against anybody: an error that was caught, timers that fired or were cleared.
#[test]
fn what_a_function_catches_or_gives_back_breaks_no_limit() {
    with_worker(|worker| async move {
        for (body, low, expected) in [
            (
                "for (let i = 0; i < 99; i++) { clearTimeout(setTimeout(() => {}, 1e6)); clearTimeout(99999) } return new Response('ok')",
                ("pending", 2),
                "ok",
            ),
            (
                "for (let i = 0; i < 9; i++) await new Promise(r => setTimeout(r, 0)); return new Response('ok')",
                ("pending", 1),
                "ok",
            ),
            (
                "let n = 0; await new Promise(r => { const i = setInterval(() => { if (++n === 5) { clearInterval(i); r() } }, 1) }); return new Response(String(n))",
                ("pending", 1),
                "5",
            ),
            (
                "for (let i = 0; i < 9; i++) await crypto.subtle.digest('SHA-256', new Uint8Array(9)); return new Response('ok')",
                ("pending", 1),
                "ok",
            ),
            (
                "for (let i = 0; i < 9; i++) await (await fetch('http://o/')).text(); return new Response('ok')",
                ("pending", 1),
                "ok",
            ),
            (
                "try { for (;;) setTimeout(() => {}, 1e6) } catch (e) { return new Response(e.name + e.message.includes('pending')) }",
                ("pending", 9),
                "RangeErrortrue",
            ),
            (
                "const f = () => f() + 1; try { f() } catch (e) { return new Response(e.name) }",
                ("pending", 9),
                "RangeError",
            ),
            (
                "try { new WebAssembly.Memory({ initial: 500 }) } catch (e) { return new Response(e.name) }",
                ("wasm_bytes", 1 << 20),
                "RangeError",
            ),
            (
                "for (let i = 0; i < 50; i++) new WebAssembly.Memory({ initial: 16 }); return new Response('ok')",
                ("wasm_bytes", 2 << 20),
                "ok",
            ),
            (
                "new WebAssembly.Memory({ initial: 8 }).grow(4); return new Response('ok')",
                ("wasm_bytes", 1 << 20),
                "ok",
            ),
            (
                "for (const bad of [-1, NaN, 1e99, 2 ** 40]) { try { new WebAssembly.Memory({ initial: bad }); throw new Error(bad) } catch (e) { if (!(e instanceof TypeError || e instanceof RangeError)) throw e } } return new Response('ok')",
                ("wasm_bytes", 1 << 20),
                "ok",
            ),
            ("return new Response('ok', { headers: { a: 'x'.repeat(900) } })", ("header_bytes", 1_000), "ok"),
            (
                "try { await fetch('http://o/') } catch (e) { return new Response(e.name) }",
                ("subrequests", 0),
                "TypeError",
            ),
        ] {
            let program = handler_with(body, &[low, ("cpu_ms", 2_000)]);
            let answer = ask(&worker, &program, request("GET", "/", "")).await;
            assert_eq!(
                answer.unwrap_or_else(|failure| panic!("{body}: {failure:?}")).body.unwrap(),
                expected,
                "{body}"
            );
        }
    });
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
fn a_body_that_an_op_gathers_counts_as_buffers() {
    with_worker(|worker| async move {
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
fn a_thread_never_sleeps_inside_javascript() {
    with_worker(|worker| async move {
        let body = "const m = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }); Atomics.wait(new Int32Array(m.buffer), 0, 0, 5000); return new Response('')";
        let began = std::time::Instant::now();
        assert_eq!(fault(&worker, &handler(body)).await.code(), "function/threw");
        assert!(began.elapsed() < std::time::Duration::from_secs(4));
    });
}
