//! One tenant never sees another's: each test is a way out that somebody could try, on a worker that runs several.

use std::task::Poll;

use super::*;
use crate::invocation::{Held, HeldBody, Invocation, Outcome};
use crate::limits::Limits;

/// The machine may be busy, and a debug build is slow: none of this is about time.
const PATIENT: &[(&str, u64)] = &[("cpu_ms", 20_000), ("startup_ms", 5_000)];

fn handler(body: &str) -> Arc<Program> {
    handler_with(body, PATIENT)
}

/// A function that answers with what `expression` gives, or with the error it throws.
fn tells(expression: &str) -> Arc<Program> {
    handler(&format!(
        "try {{ return new Response(String(await (async () => ({expression}))())) }} catch (e) {{ return new Response(e?.name ?? 'thrown') }}"
    ))
}

async fn answer(worker: &Worker, program: &Arc<Program>) -> String {
    ask(worker, program, request("GET", "/", ""))
        .await
        .unwrap_or_else(|failure| panic!("{}: {failure:?}", program.version))
        .body
        .unwrap()
}

#[test]
fn what_one_function_changes_of_the_language_another_does_not_see() {
    with_worker(|worker| async move {
        let vandal = handler(
            "globalThis.secret = 'mine'; Object.prototype.secret = 'mine'; Array.prototype.map = () => 'mine'; Response.prototype.secret = 'mine';
             Headers.prototype.get = () => 'mine'; Symbol.for('shared').description; globalThis[Symbol.for('secret')] = 'mine';
             Promise.prototype.then = undefined; JSON.parse = () => 'mine'; Function.prototype.call = () => 'mine'; RegExp.prototype.exec = () => 'mine';
             Object.defineProperty(Object.prototype, 'status', { get: () => 'mine', set() {} }); return new Response('done')",
        );
        let honest = tells(
            "[globalThis.secret, {}.secret, [1].map(String), Response.prototype.secret, request.headers.get('x-test'), globalThis[Symbol.for('secret')], JSON.parse('1'), (() => 2).call(), /a/.exec('a')[0], 'status' in {}].join()",
        );
        let before = answer(&worker, &honest).await;
        assert_eq!(before, ",,1,,yes,,1,2,a,false");
        // It may well have broken itself.
        let _ = ask(&worker, &vandal, request("GET", "/", "")).await;
        assert_eq!(answer(&worker, &honest).await, before);
        // A third, that starts in an isolate made after the damage was done.
        let late = tells("[{}.secret, globalThis.secret, [1].map(String), JSON.parse('1')].join()");
        assert_eq!(answer(&worker, &late).await, ",,1,1");
    });
}

#[test]
fn modules_of_the_same_name_are_each_bundles_own() {
    with_worker(|worker| async move {
        let bundle = |secret: &str| {
            program_of(
                &[
                    (
                        "index.js",
                        "import { secret, count } from './lib/shared.js'; export default { async fetch() { const again = await import('/lib/shared.js'); return new Response(`${secret} ${count()} ${again.count === count}`) } };",
                    ),
                    (
                        "lib/shared.js",
                        &format!("let n = 0; export const count = () => ++n; export const secret = '{secret}';"),
                    ),
                ],
                &[],
            )
        };
        let (one, other) = (bundle("one"), bundle("other"));
        for round in 1..4 {
            assert_eq!(answer(&worker, &one).await, format!("one {round} true"));
        }
        assert_eq!(answer(&worker, &other).await, "other 1 true");
    });
}

#[test]
fn only_what_is_in_the_bundle_can_be_imported() {
    with_worker(|worker| async move {
        for specifier in [
            "ext:core/ops",
            "ext:core/mod.js",
            "ext:skerry/90_runtime.js",
            "ext:deno_web/06_streams.js",
            "file:///etc/passwd",
            "file:///index.js/../../etc/passwd",
            "../../../../etc/passwd",
            "./%2e%2e/%2e%2e/etc/passwd",
            "/etc/passwd",
            "/proc/self/environ",
            "//example.com/x.js",
            "node:fs",
            "node:process",
            "npm:left-pad",
            "jsr:@std/fs",
            "http://example.com/x.js",
            "https://example.com/x.js",
            "data:text/javascript,export default 1",
            "data:application/json,1",
            "blob:null/1",
            "skerry:internal",
            "skerry:edge/x",
            "checkin",
            "internal:x",
            "",
            "./",
            "./index.js%00",
            "./index",
        ] {
            let program = tells(&format!("Object.keys(await import({specifier:?}))"));
            assert_eq!(answer(&worker, &program).await, "TypeError", "{specifier}");
            let resolved = tells(&format!("import.meta.resolve({specifier:?})"));
            assert_eq!(answer(&worker, &resolved).await, "TypeError", "import.meta.resolve({specifier})");
        }
        // The check can fail: what is there is imported, and so is the module that the platform brings.
        assert_eq!(answer(&worker, &tells("Object.keys(await import('./index.js'))")).await, "default");
        assert_eq!(
            answer(&worker, &tells("Object.keys(await import('skerry:edge'))")).await,
            "locate,nearestRegion,tooManyRequests"
        );
        for with in ["json", "text", "bytes", "wasm", "css"] {
            let program = tells(&format!("(await import('/etc/hostname', {{ with: {{ type: {with:?} }} }})).default"));
            assert_eq!(answer(&worker, &program).await, "TypeError", "{with}");
        }
    });
}

#[test]
fn no_text_becomes_code() {
    with_worker(|worker| async move {
        let constructors = [
            "Function",
            "(() => {}).constructor",
            "[].constructor.constructor",
            "ctx.constructor.constructor",
            "Object.getPrototypeOf(function* () {}).constructor",
            "Object.getPrototypeOf(async () => {}).constructor",
            "Object.getPrototypeOf(async function* () {}).constructor",
            "fetch.constructor",
            "console.log.constructor",
            "Error.captureStackTrace.constructor",
            "crypto.subtle.digest.constructor",
        ];
        for constructor in constructors {
            for call in [
                "F('return 1')()",
                "new F('return 1')()",
                "Reflect.construct(F, ['return 1'])()",
                "F.call(null, 'return 1')()",
                "F()()",
                "Reflect.construct(F, ['return 1'], Object)",
                "new (class extends F {})('return 1')",
            ] {
                let program = tells(&format!("((F) => {call})({constructor})"));
                assert_eq!(answer(&worker, &program).await, "EvalError", "{call} with {constructor}");
            }
        }
        for attempt in [
            "eval('1')",
            "(0, eval)('1')",
            "globalThis.eval('1')",
            "Reflect.apply(eval, null, ['1'])",
            "['1'].map(eval)",
            "(async () => eval('1'))()",
            "eval?.('1')",
        ] {
            assert_eq!(answer(&worker, &tells(attempt)).await, "EvalError", "{attempt}");
        }
        for attempt in [
            "setTimeout('globalThis.ran = 1', 0)",
            "setInterval('globalThis.ran = 1', 0)",
            "setTimeout({ toString: () => 'globalThis.ran = 1' }, 0)",
            "queueMicrotask('globalThis.ran = 1')",
            "new ShadowRealm().evaluate('1')",
            "await import('data:text/javascript,globalThis.ran = 1')",
            "new Worker('data:text/javascript,1')",
            "importScripts('data:text/javascript,1')",
        ] {
            let answer = answer(&worker, &tells(attempt)).await;
            assert!(["TypeError", "ReferenceError"].contains(&answer.as_str()), "{attempt}: {answer}");
        }
        // What is no text is given back, as the standard says.
        assert_eq!(answer(&worker, &tells("eval(7) + eval({ valueOf: () => 3 })")).await, "10");
    });
}

#[test]
fn what_a_request_left_behind_finds_nothing_in_the_next() {
    with_worker(|worker| async move {
        let program = handler(
            "if (globalThis.kept === undefined) {
               globalThis.kept = { request, ctx, lazy: request.headers };
               setTimeout(() => { globalThis.late = true }, 200);
               ctx.waitUntil(new Promise(() => {}));
               return new Response('kept');
             }
             const { kept } = globalThis; const out = [];
             const attempt = async (what) => { try { out.push(await what()) } catch (e) { out.push(e.name) } };
             await scheduler.wait(300);
             await attempt(() => kept.request.text()); await attempt(() => kept.request.url); await attempt(() => kept.lazy.get('x-secret')); await attempt(() => kept.request.cf);
             await attempt(() => { kept.ctx.passThroughOnException(); return 'nothing' });
             await attempt(() => { kept.ctx.waitUntil(Promise.resolve()); return 'nothing' });
             out.push(globalThis.late, await request.text());
             return new Response(out.join())",
        );
        let with = |secret: &str| {
            let mut request = request("POST", "/", &format!("body of {secret}"));
            request.headers_mut().insert("x-secret", secret.parse().unwrap());
            request
        };
        // `waitUntil` keeps the first alive to its end: given up at its limit, or dropped with it.
        let program = {
            let Program { version, main, modules, bindings, .. } = Arc::try_unwrap(program).unwrap();
            Arc::new(Program {
                version,
                main,
                modules,
                bindings,
                limits: Limits::with([("wait_until_ms", 1)]).unwrap(),
                provisioned: false,
            })
        };
        assert_eq!(ask(&worker, &program, with("first")).await.unwrap().body.unwrap(), "kept");
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        let second = ask(&worker, &program, with("second")).await.unwrap().body.unwrap();
        assert_eq!(second, "TypeError,TypeError,TypeError,TypeError,nothing,nothing,,body of second");
    });
}

#[test]
fn no_number_counted_up_reaches_what_is_not_ones_own() {
    with_worker(|_| async move {
        let mut isolates = [walls::raw_isolate(), walls::raw_isolate()];
        // The first has a request with a body under way, and one that is over; the second has nothing.
        let state = isolates[0].with(|runtime| runtime.op_state());
        let echo = Rc::new(Echo::default());
        {
            let mut state = state.borrow_mut();
            let held = state.borrow_mut::<Held>();
            for over in [true, false] {
                let body = held.bodies.insert(HeldBody::new(0, full("secret"))).unwrap();
                let (head, _) = request("GET", "/", "").into_parts();
                let capabilities = Rc::clone(&echo) as Rc<dyn Capabilities>;
                let invocation = Invocation::new(head, body, capabilities, &Limits::default());
                let id = held.invocations.insert(invocation).unwrap();
                if over {
                    held.end(id);
                    assert_eq!(id, 1 << 16, "the ids that are tried below hold this one");
                }
            }
        }
        let attempts = "
            let found = 0; const { ops } = Deno.core;
            const attempt = (op, ...args) => { try { const got = ops[op](...args); if (got instanceof Promise) got.then((given) => { if (given) found++ }, () => {}); else if (got) found++ } catch {} };
            for (const id of ids) {
                for (const op of ['op_request_method', 'op_request_url', 'op_request_headers', 'op_request_cf', 'op_body_read', 'op_body_read_all', 'op_body_close', 'op_hold', 'op_touch', 'op_fetch_cancel']) attempt(op, id);
                attempt('op_respond_text', id, 200, '', 'forged'); attempt('op_respond', id, 200, '', null, id); attempt('op_fail', id, 'threw', 'forged');
                attempt('op_call', id, 'LIMITER', 'limit', 'x'); attempt('op_call_async', id, 'LIMITER', 'limit', 'x');
                for (const from of [0, id]) attempt('op_fetch', id, 0, 'GET http://o/', from, '', null, 0, ''); attempt('op_stream_write', id, id, new Uint8Array(1)); attempt('op_stream_end', id, '');
                attempt('op_body_decode', id, 'gzip'); attempt('op_wait_until', id, -1); attempt('op_pass_through', id);
            }
            globalThis.count = () => found;";
        let count = |isolate: &mut crate::entered::Isolate, ids: &str| {
            isolate.with(|runtime| {
                runtime.execute_script("attempts", format!("{{ const ids = {ids}; {attempts} }}")).unwrap();
                deno_core::scope!(scope, runtime);
                scope.perform_microtask_checkpoint();
            });
            isolate.with(|runtime| {
                let found = runtime.execute_script("count", "count()").unwrap();
                deno_core::scope!(scope, runtime);
                deno_core::v8::Local::new(scope, found).uint32_value(scope).unwrap()
            })
        };
        let every = "Array.from({ length: 4096 }, (_, i) => (i >> 6) << 16 | i & 63)";
        assert_eq!(count(&mut isolates[1], every), 0, "a neighbour finds nothing");
        assert_eq!(
            count(&mut isolates[0], "[65536]"),
            0,
            "an id that is over finds nothing, though its place is taken"
        );
        let answered = || state.borrow_mut().borrow_mut::<Held>().poll_answer(2 << 16, None);
        assert!(answered().is_pending(), "and answers nobody");
        assert!(count(&mut isolates[0], "[2 << 16]") > 0, "the check can fail: the right id finds something");
        assert!(matches!(answered(), Poll::Ready(Some(Outcome::Response { status: 200, .. }))));
    });
}

#[test]
fn stack_traces_show_a_function_its_own_frames_only() {
    with_worker(|worker| async move {
        let collect = "const stacks = []; const note = () => { stacks.push(new Error('x').stack) };
            new Headers([['a', 'b']]).forEach(note); [1].map(note); JSON.parse('1', note); new URLSearchParams('a=1').forEach(note);
            const target = new EventTarget(); target.addEventListener('x', note); target.dispatchEvent(new Event('x'));
            new ReadableStream({ start: note, pull: note }).getReader().read(); await new Promise((resolve) => setTimeout(() => { note(); resolve() }, 1));
            try { new Headers([['\\n', 'b']]) } catch (e) { stacks.push(e.stack) }
            try { await fetch('nonsense:') } catch (e) { stacks.push(e.stack) }
            try { await fetch('http://o/fail') } catch (e) { stacks.push(e.stack) }
            try { atob('a') } catch (e) { stacks.push(String(e.stack)) }
            try { structuredClone(() => {}) } catch (e) { stacks.push(String(e.stack)) }
            const own = {}; Error.captureStackTrace(own); stacks.push(own.stack); new Headers({ a: { toString() { note(); return 'x' } } });
            console.log({ [Symbol.for('Deno.privateCustomInspect')]() { note(); return 'x' } });";
        let plain = handler(&format!("{collect} return new Response(stacks.join('\\n'))"));
        let found = answer(&worker, &plain).await;
        assert!(found.lines().filter(|line| line.contains("index.js")).count() >= 12, "{found}");
        for word in ["ext:", "deno", "skerry", env!("CARGO_MANIFEST_DIR")] {
            assert!(!found.contains(word), "{word:?} in {found}");
        }
        let prepared = handler(&format!(
            "const files = new Set(), things = new Set(); Error.prepareStackTrace = (error, frames) => {{
                for (const frame of frames) {{ files.add(frame.getFileName()); things.add(typeof frame.getThis()); things.add(typeof frame.getFunction()); things.add(typeof frame.getEvalOrigin?.()); }}
                return 'text' }};
             {collect} return new Response([...files, ...things].join())"
        ));
        let found = answer(&worker, &prepared).await;
        for word in ["ext:", "deno", "skerry", "object", "function"] {
            assert!(!found.contains(word), "{word:?} in {found}");
        }
        assert!(found.contains("index.js"), "{found}");
    });
}

#[test]
fn hostile_hooks_for_stack_traces_harm_nobody() {
    with_worker(|worker| async move {
        for body in [
            "Error.prepareStackTrace = () => { throw new Error('again') }; try { try { null.x } catch (e) { e.stack } } catch {} return new Response('alive')",
            "Error.prepareStackTrace = (e) => new Error('more').stack; try { new Error().stack } catch {} return new Response('alive')",
            "Object.defineProperty(globalThis, 'Error', { get() { throw 1 } }); try { null.x } catch (e) { try { e.stack } catch {} } return new Response('alive')",
            "class Odd extends Error { get name() { throw 1 } get message() { throw 2 } } try { new Odd().stack } catch {} return new Response('alive')",
            "Error.stackTraceLimit = 1e9; const f = (n) => n === 0 ? new Error().stack.length : f(n - 1); f(3000); return new Response('alive')",
            "const f = () => { try { f() } catch (e) { e.stack } }; try { f() } catch {} return new Response('alive')",
        ] {
            assert_eq!(answer(&worker, &handler_with(body, &[("cpu_ms", 10_000)])).await, "alive", "{body}");
        }
        // Ended in the middle of it.
        for round in 0..30 {
            let body = format!("const round = {round}; for (;;) {{ try {{ null.x }} catch (e) {{ e.stack }} }}");
            assert_eq!(fault(&worker, &handler_with(&body, &[("cpu_ms", 5)])).await.code(), "limit/cpu");
        }
        assert_eq!(text(&worker, "return new Response('alive')").await, "alive");
    });
}

#[test]
fn the_console_survives_what_it_is_asked_to_show() {
    with_worker(|worker| async move {
        for shown in [
            "new Proxy({}, { get() { throw 1 }, ownKeys() { throw 2 }, getPrototypeOf() { throw 3 } })",
            "new Proxy(request, {})",
            "(() => { const a = []; a.push(a); a.self = { a }; return a })()",
            "(() => { let a = {}; for (let i = 0; i < 1e5; i++) a = { a }; return a })()",
            "(() => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return new Map([[a, a]]) })()",
            "new Array(1e7)",
            "new Uint8Array(1e7)",
            "'x'.repeat(1e7)",
            "{ get x() { throw 1 }, [Symbol.toStringTag]: { toString() { throw 2 } } }",
            "{ [Symbol.toStringTag]: 'x'.repeat(1e6), constructor: { name: { toString() { throw 1 } } } }",
            "{ [Symbol.for('Deno.privateCustomInspect')]() { throw 1 } }",
            "{ [Symbol.for('Deno.privateCustomInspect')](inspect, options) { let a = {}; for (let i = 0; i < 2e5; i++) a = { a }; return inspect(a, { ...options, depth: Infinity }) } }",
            "{ [Symbol.for('Deno.privateCustomInspect')](inspect, options) { return inspect(this, options) } }",
            "{ [Symbol.for('nodejs.util.inspect.custom')](depth, options, inspect) { return inspect(this, { depth: null }) } }",
            "Object.assign(new Error(), { stack: { toString() { throw 1 } } })",
            "(() => { const e = new Error('x'); e.cause = e; return e })()",
            "new AggregateError(Array.from({ length: 1e4 }, () => new Error('x')))",
            "'%s %d %j %o %O %c %i %f %%', Symbol(), 1n, {}, { get x() { throw 1 } }, class {}, 'color: red', {}, [], 1",
            "Object.create(null)",
            "globalThis",
            "function* () {}",
            "new (class extends Response { get status() { throw 1 } })()",
        ] {
            let body = format!(
                "try {{ console.log({shown}) }} catch (e) {{ return new Response('threw ' + e) }} return new Response('alive')"
            );
            let program = handler_with(&body, &[("cpu_ms", 20_000)]);
            let answer = ask(&worker, &program, request("GET", "/", "")).await;
            let answer = answer.unwrap_or_else(|failure| panic!("{shown}: {:?}", failure.fault));
            assert_eq!(answer.body.unwrap(), "alive", "{shown}");
            assert!(answer.log.iter().map(String::len).sum::<usize>() <= 70_000, "{shown}: its log is bounded");
        }
    });
}

#[test]
fn memory_that_was_anothers_comes_back_empty() {
    with_worker(|worker| async move {
        let limits = &[("buffer_bytes", 64 << 20), ("cpu_ms", 10_000)];
        let hoards = handler_with(
            "globalThis.kept = []; for (let i = 0; i < 200; i++) kept.push(new Uint8Array(1 + 1777 * i).fill(0xa5), crypto.getRandomValues(new Uint8Array(4096)).fill(0xa5));
             kept.push(new WebAssembly.Memory({ initial: 4 })); new Uint8Array(kept.at(-1).buffer).fill(0xa5); return new Response('kept')",
            limits,
        );
        let looks = "let found = 0; const look = (buffer) => { for (const byte of new Uint8Array(buffer)) if (byte !== 0) found++ };
             for (let i = 0; i < 200; i++) { look(new ArrayBuffer(1 + 1777 * i)); look(new Uint16Array(1 + 888 * i).buffer); look(new ArrayBuffer(8).transfer(1 + 1000 * i)) }
             const growing = new ArrayBuffer(0, { maxByteLength: 1 << 20 }); growing.resize(1 << 20); look(growing); growing.resize(0); growing.resize(1 << 20); look(growing);
             look(new WebAssembly.Memory({ initial: 4 }).buffer); look(new Uint8Array(new ArrayBuffer(100), 50).slice().buffer); look(Uint8Array.from({ length: 5000 }).buffer);
             look(structuredClone(new ArrayBuffer(70000))); const encoded = new Uint8Array(70000); new TextEncoder().encodeInto('', encoded); look(encoded.buffer); look((await new Response(new Uint8Array(70000)).arrayBuffer()));
             return new Response(String(found))";
        for round in 0..3 {
            assert_eq!(answer(&worker, &hoards).await, "kept");
            worker.retain(|_| false);
            let program = handler_with(&format!("// {round}\n{looks}"), limits);
            assert_eq!(answer(&worker, &program).await, "0");
            worker.retain(|_| false);
        }
    });
}

#[test]
fn a_rejection_nobody_handles_stays_with_its_function() {
    with_worker(|worker| async move {
        let rejects = handler(
            "Promise.reject(new Error('mine')); setTimeout(() => { throw new Error('later') }, 5); await scheduler.wait(20); return new Response('rejected')",
        );
        let waits = handler("await scheduler.wait(10); console.log('only this'); return new Response('waited')");
        let (rejected, waited) = tokio::join!(
            ask(&worker, &rejects, request("GET", "/", "")),
            ask(&worker, &waits, request("GET", "/", ""))
        );
        let (rejected, waited) = (rejected.unwrap(), waited.unwrap());
        assert_eq!((rejected.body.unwrap().as_str(), waited.body.unwrap().as_str()), ("rejected", "waited"));
        assert!(
            rejected.log.iter().any(|line| line.contains("mine"))
                && rejected.log.iter().any(|line| line.contains("later")),
            "{:?}",
            rejected.log
        );
        assert_eq!(waited.log, ["2 only this"]);
    });
}

#[test]
fn what_is_shared_by_all_requests_cannot_be_changed() {
    with_worker(|worker| async move {
        let program = tells(
            "(() => { const edge = globalThis[Symbol.for('skerry:edge')]; const tried = [];
               const attempt = (change) => { try { change(); tried.push('changed') } catch { tried.push('refused') } };
               attempt(() => { 'use strict'; edge.locate = 1 }); attempt(() => { edge.locate.x = 1 }); attempt(() => { edge.more = 1 }); attempt(() => { globalThis[Symbol.for('skerry:edge')] = 1 });
               attempt(() => { delete globalThis[Symbol.for('skerry:edge')]; }); attempt(() => Object.setPrototypeOf(edge, {})); attempt(() => { Object.setPrototypeOf(edge.locate, {}) });
               attempt(() => { navigator.userAgent = 'x' });
               return [...new Set(tried)] })()",
        );
        assert_eq!(answer(&worker, &program).await, "refused");
    });
}

#[test]
fn what_a_handler_is_given_cannot_be_made_by_itself() {
    with_worker(|worker| async move {
        for made in [
            "new ctx.constructor(65536)",
            "new ctx.constructor(65537)",
            "Reflect.construct(ctx.constructor, [65536])",
            "new env.LIMITER.constructor('OTHER')",
            "Reflect.construct(env.LIMITER.constructor, ['LIMITER'])",
            "ctx.waitUntil.call({}, Promise.resolve())",
            "env.LIMITER.limit.call({}, { key: 'x' })",
            "Reflect.get(Request.prototype, 'url', {})",
            "Request.prototype.text.call(new Proxy(request, {}))",
            "new Proxy(request, {}).url",
            "Headers.prototype.get.call(new Proxy(request.headers, {}), 'x')",
        ] {
            assert_eq!(answer(&worker, &tells(made)).await, "TypeError", "{made}");
        }
        // A proxy of a response is none.
        let program = handler("return new Proxy(new Response('x'), {})");
        assert_eq!(fault(&worker, &program).await.code(), "function/invalid-response");
    });
}
