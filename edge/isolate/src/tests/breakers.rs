//! Functions that mean harm, each in its own way: what comes of each is named, and others on the thread do not notice.

use super::*;

/// What is expected of a handler: the code of its fault, or, behind an equals sign, the text it answers.
type Case = (&'static str, &'static str);

/// Runs every handler on one worker; after each, another function there has to answer.
fn all_end_as_named(cases: &'static [Case], low: &'static [(&'static str, u64)]) {
    with_worker(move |worker| async move {
        let neighbour = handler("return new Response('fine')");
        let mut others = Vec::new();
        for (body, expected) in cases {
            let answer = ask(&worker, &handler_with(body, low), request("GET", "/", "")).await;
            let found = match answer {
                Ok(answer) => format!("={}", answer.body.unwrap_or_else(|error| error)),
                Err(failure) => failure.fault.code().to_owned(),
            };
            if found != *expected {
                others.push(format!("{body}: {found}, not {expected}"));
            }
            let fine = ask(&worker, &neighbour, request("GET", "/", "")).await.unwrap();
            assert_eq!(fine.body.unwrap(), "fine", "after {body}");
        }
        assert!(others.is_empty(), "{}", others.join("\n"));
    });
}

#[test]
fn whatever_never_ends_is_ended() {
    const CASES: &[Case] = &[
        ("while (true);", "limit/cpu"),
        ("out: for (;;) { for (;;) continue out }", "limit/cpu"),
        ("function* g() { for (;;) yield 1 } for (const x of g());", "limit/cpu"),
        ("({ get x() { for (;;); } }).x", "limit/cpu"),
        ("class A { static { for (;;); } }", "limit/cpu"),
        ("`${{ toString() { for (;;); } }}`", "limit/cpu"),
        ("JSON.stringify({ toJSON() { for (;;); } })", "limit/cpu"),
        ("[1, 2].sort(() => { for (;;); })", "limit/cpu"),
        ("'a'.replace(/a/, () => { for (;;); })", "limit/cpu"),
        ("Reflect.ownKeys(new Proxy({}, { ownKeys() { for (;;); } }))", "limit/cpu"),
        ("new Promise(() => { for (;;); })", "limit/cpu"),
        ("Array.from({ length: 1e9 }, () => 0)", "limit/cpu"),
        ("throw { get stack() { for (;;); } }", "limit/cpu"),
        ("return { get then() { for (;;); } }", "limit/cpu"),
        ("return new Response({ toString() { for (;;); } })", "limit/cpu"),
        ("console.log({ get [Symbol.toStringTag]() { for (;;); } })", "limit/cpu"),
    ];
    all_end_as_named(CASES, &[]);
}

#[test]
fn whatever_never_yields_is_ended() {
    const CASES: &[Case] = &[
        ("for (;;) await null", "limit/cpu"),
        ("const f = () => queueMicrotask(f); f(); await new Promise(() => {})", "limit/cpu"),
        ("const f = () => { queueMicrotask(f); queueMicrotask(f) }; f(); await new Promise(() => {})", "limit/cpu"),
        ("for await (const x of (async function* () { for (;;) yield 1 })());", "limit/cpu"),
        ("for await (const x of { [Symbol.asyncIterator]: () => ({ next: async () => ({}) }) });", "limit/cpu"),
        ("const t = { then(resolve) { resolve(t) } }; await t", "limit/cpu"),
        ("const f = () => setTimeout(f, 0); for (let i = 0; i < 9; i++) f(); await new Promise(() => {})", "limit/cpu"),
        (
            "setInterval(() => { const t = Date.now(); while (Date.now() < t + 2); }, 0); await new Promise(() => {})",
            "limit/cpu",
        ),
        ("for (;;) console.log('x'.repeat(100))", "limit/cpu"),
        ("await new Promise(() => {})", "function/never-answered"),
        ("await Promise.all([Promise.race([])])", "function/never-answered"),
    ];
    all_end_as_named(CASES, &[]);
}

#[test]
fn nobody_catches_the_end() {
    const CASES: &[Case] = &[
        ("for (;;) { try { for (;;); } catch {} finally { continue } }", "limit/cpu"),
        ("try { for (;;); } catch (e) { for (;;); }", "limit/cpu"),
        ("const f = () => { try { for (;;); } finally { f() } }; f()", "limit/cpu"),
        ("const f = async () => { try { for (;;); } finally { await f() } }; await f()", "limit/cpu"),
        (
            "const f = async () => { for (;;) try { await null; for (;;); } catch {} finally { await f() } }; await f()",
            "limit/cpu",
        ),
        (
            "function* g() { for (;;) try { yield; for (;;); } finally { for (;;) yield } } for (;;) for (const x of g()) for (;;);",
            "limit/cpu",
        ),
        (
            "const trap = () => { for (;;) try { for (;;); } catch {} finally { continue } };
             const p = new Proxy({}, { get: trap, set: trap, has: trap, ownKeys: trap, getPrototypeOf: trap }); p.x",
            "limit/cpu",
        ),
        (
            "return new Promise(() => { for (;;); }).catch(() => new Response('caught')).finally(() => { for (;;); })",
            "limit/cpu",
        ),
        ("try { for (;;); } finally { return new Response('answered all the same') }", "limit/cpu"),
        (
            "ctx.waitUntil((async () => { try { for (;;); } finally { for (;;); } })()); return new Response('')",
            "limit/cpu",
        ),
        ("class R { [Symbol.dispose]() { for (;;); } } { using r = new R(); for (;;); }", "limit/cpu"),
    ];
    all_end_as_named(CASES, &[]);
}

#[test]
fn regular_expressions_and_sorts_end_at_the_limit() {
    const CASES: &[Case] = &[
        ("/(x+x+)+y/.exec('x'.repeat(60))", "limit/cpu"),
        ("'a'.repeat(60).match(/^(([a-z])+.)+[A-Z]([a-z])+$/)", "limit/cpu"),
        ("const a = Array.from({ length: 1e6 }, (_, i) => (i * 7919) % 1e6); for (;;) a.toSorted()", "limit/cpu"),
        (
            "const a = Array.from({ length: 1e6 }, (_, i) => (i * 7919) % 1e6); for (;;) a.toSorted((x, y) => x - y)",
            "limit/cpu",
        ),
        ("const a = new Float64Array(1e6).map((_, i) => (i * 7919) % 1e6); for (;;) a.toSorted()", "limit/cpu"),
        (
            "const a = new Float64Array(1e6).map((_, i) => (i * 7919) % 1e6); for (;;) a.toSorted((x, y) => x - y)",
            "limit/cpu",
        ),
    ];
    all_end_as_named(CASES, &[("cpu_ms", 300)]);
}

#[test]
fn hoards_of_every_kind_meet_their_limit() {
    const HEAP: &[Case] = &[
        ("const a = []; for (;;) a.push({})", "limit/heap"),
        ("const m = new Map(); for (let i = 0;; i++) m.set(i, { i })", "limit/heap"),
        ("const s = new Set(); for (let i = 0;; i++) s.add(`key ${i}`)", "limit/heap"),
        ("const o = {}; for (let i = 0;; i++) o[`key ${i}`] = i", "limit/heap"),
        ("const a = []; for (;;) { const held = new Array(100).fill(a.length); a.push(() => held) }", "limit/heap"),
        ("let list = null; for (;;) list = { list }", "limit/heap"),
        ("const a = []; for (;;) a.push(Symbol(a.length))", "limit/heap"),
        ("const a = []; for (;;) a.push(new Error('x'))", "limit/heap"),
        ("const a = []; for (;;) a.push(new Promise(() => {}))", "limit/heap"),
        ("const a = []; for (;;) a.push(JSON.parse('[1,[2,[3,{\"a\":\"b\"}]]]'))", "limit/heap"),
        ("const a = []; for (;;) a.push(`${'x'.repeat(1e5)}${a.length}`.split('').join('-'))", "limit/heap"),
        (
            "let s = 'xy'; for (let i = 0; i < 20; i++) s += s; const a = []; for (let n = 0;; n++) { const t = s + n; t.at(5); a.push(t) }",
            "limit/heap",
        ),
        ("const a = new Array(2 ** 24).fill(1.5); return new Response(a.length)", "limit/heap"),
        (
            "return new Response(Object.keys(Object.fromEntries(Array.from({ length: 2e6 }, (_, i) => [i, i]))).length)",
            "limit/heap",
        ),
        ("globalThis.kept ??= []; for (;;) kept.push([kept.length])", "limit/heap"),
        ("const h = new Headers(); for (let i = 0;; i++) h.append(`x-${i}`, 'y'.repeat(100))", "limit/heap"),
        ("const u = new URLSearchParams(); for (let i = 0;; i++) u.append(i, 'y'.repeat(100))", "limit/heap"),
    ];
    const OUTSIDE: &[Case] = &[
        ("const a = []; for (;;) a.push(new ArrayBuffer(1 << 16))", "limit/buffers"),
        ("const a = []; for (;;) a.push(new Float64Array(100))", "limit/buffers"),
        (
            "let b = new ArrayBuffer(8, { maxByteLength: 2 ** 26 }); b.resize(2 ** 26); new Uint8Array(b).fill(1); return new Response('')",
            "limit/buffers",
        ),
        ("const a = []; for (;;) a.push(structuredClone(new Uint8Array(1 << 16)))", "limit/buffers"),
        ("const a = []; for (;;) a.push(new Blob(['x'.repeat(1 << 16)]))", "limit/buffers"),
        ("return new Response(new Uint8Array(2 ** 32))", "limit/buffers"),
        (
            "const { readable, writable } = new TransformStream(undefined, undefined, { highWaterMark: Infinity }); const w = writable.getWriter(); for (;;) w.write(new Uint8Array(1 << 16))",
            "limit/buffers",
        ),
    ];
    all_end_as_named(HEAP, &[("heap_bytes", 24 << 20), ("cpu_ms", 30_000)]);
    all_end_as_named(OUTSIDE, &[("buffer_bytes", 8 << 20), ("cpu_ms", 10_000)]);
}

#[test]
fn recursion_of_every_kind_is_an_error_of_its_request() {
    const CASES: &[Case] = &[
        ("const f = () => [f()]; f()", "limit/stack"),
        ("const o = { get x() { return this.x } }; o.x", "limit/stack"),
        ("const o = { toString() { return `${o}` } }; `${o}`", "limit/stack"),
        ("const p = new Proxy({}, { get: (target, key, receiver) => receiver[key] }); p.x", "limit/stack"),
        ("let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); p.x", "limit/stack"),
        (
            "let o = {}; for (let i = 0; i < 1e5; i++) o = { o }; return new Response(JSON.stringify(o).length)",
            "=600002",
        ),
        ("JSON.parse('['.repeat(1e5) + ']'.repeat(1e5), (key, value) => value)", "limit/stack"),
        ("const o = { toJSON() { return JSON.stringify(o) } }; JSON.stringify(o)", "limit/stack"),
        ("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; a.flat(Infinity)", "limit/stack"),
        ("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; `${a}`", "limit/stack"),
        ("let f = () => 1; for (let i = 0; i < 1e5; i++) f = f.bind(); return new Response(f())", "=1"),
        ("const f = () => 'a'.replace(/a/, f); f()", "limit/stack"),
        ("const f = () => [1, 2].sort(f); f()", "limit/stack"),
        ("const f = async () => { await f() }; await f()", "limit/stack"),
        ("class A { constructor() { return Reflect.construct(A, []) } } new A()", "limit/stack"),
        (
            "try { new RegExp('('.repeat(1e5) + ')'.repeat(1e5)) } catch (e) { return new Response(e.name) }",
            "=SyntaxError",
        ),
        (
            "let o = {}; for (let i = 0; i < 1e5; i++) o = { o }; try { structuredClone(o) } catch (e) { return new Response(typeof e.name) }",
            "=string",
        ),
        (
            "let o = {}; for (let i = 0; i < 1e5; i++) o = { o }; console.log(o); return new Response('logged')",
            "=logged",
        ),
        ("let s = ''; for (let i = 0; i < 1e5; i++) s = 'a' + s; return new Response(s.at(5))", "=a"),
        (
            "const f = () => { try { f() } catch { return f() } }; try { f() } catch (e) { return new Response(e.name) }",
            "limit/cpu",
        ),
        (
            "const f = () => f() + 1; let n = 0; for (let i = 0; i < 9; i++) try { f() } catch { n++ } return new Response(n)",
            "=9",
        ),
    ];
    all_end_as_named(CASES, &[("cpu_ms", 1_000)]);
}

#[test]
fn what_throws_when_it_is_looked_at_is_no_response() {
    const CASES: &[Case] = &[
        ("return new Proxy(new Response('x'), { get() { throw new Error('trap') } })", "function/threw"),
        (
            "return new Proxy(new Response('x'), { get(target, key) { return key === 'then' ? undefined : target[key] } })",
            "function/invalid-response",
        ),
        ("return { get then() { throw new Error('then') } }", "function/threw"),
        ("return { then: 1, get status() { throw 1 } }", "function/invalid-response"),
        (
            "return { then(resolve) { resolve({ [Symbol.toPrimitive]() { throw 1 }, get constructor() { throw 2 } }) } }",
            "function/invalid-response",
        ),
        ("return Object.create(Response.prototype)", "function/invalid-response"),
        ("return { __proto__: Response.prototype, status: 200, headers: {}, body: 'x' }", "function/invalid-response"),
        (
            "class R extends Response { get status() { throw 1 } get headers() { throw 2 } get body() { throw 3 } get then() { return undefined } } return new R('inside')",
            "=inside",
        ),
        ("return new Response('', { get status() { throw new Error('status') } })", "function/threw"),
        ("return new Response('', { status: { valueOf() { throw new Error('status') } } })", "function/threw"),
        ("return new Response('', { get headers() { throw new Error('headers') } })", "function/threw"),
        (
            "return new Response('', { headers: new Proxy({}, { ownKeys() { throw new Error('keys') } }) })",
            "function/threw",
        ),
        ("return new Response('', { headers: { get a() { throw new Error('value') } } })", "function/threw"),
        ("return new Response({ toString() { throw new Error('body') } })", "function/threw"),
        ("return new Response(new ReadableStream({ get pull() { throw new Error('pull') } }))", "function/threw"),
        ("const r = new Response('x'); await r.text(); return r", "function/invalid-response"),
        ("const r = new Response(new ReadableStream()); r.body.getReader(); return r", "function/invalid-response"),
        ("throw new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 2 } })", "function/threw"),
        ("throw new Proxy(new Error('x'), { get() { throw 1 } })", "function/threw"),
        ("throw null", "function/threw"),
        ("throw { get stack() { throw 1 }, get message() { throw 2 }, toString: null }", "function/threw"),
        ("const e = new Error('x'); e.cause = e; throw e", "function/threw"),
        ("Error.prepareStackTrace = () => { throw 1 }; throw new Error('x')", "function/threw"),
        (
            "Object.defineProperty(Error.prototype, 'name', { get() { throw 1 } }); throw new Error('x')",
            "function/threw",
        ),
        (
            "const p = Promise.resolve(new Response('x')); p.then = () => {}; return { then: p.then }",
            "function/never-answered",
        ),
    ];
    all_end_as_named(CASES, &[]);
}

#[test]
fn a_response_that_never_ends_is_cut_off_at_its_limit() {
    with_worker(|worker| async move {
        for body in [
            "return new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(600)) } }))",
            "return new Response(new ReadableStream({ async start(c) { for (;;) { c.enqueue(new Uint8Array(600)); await scheduler.wait(1) } } }))",
            "const { readable, writable } = new TransformStream(); (async () => { const w = writable.getWriter(); for (;;) await w.write(new Uint8Array(600)) })(); return new Response(readable)",
        ] {
            let program = handler_with(body, &[("response_body_bytes", 10_000), ("cpu_ms", 1_000)]);
            let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
            assert!(answer.body.unwrap_err().contains("10000 bytes"), "{body}");
            assert_eq!(text(&worker, "return new Response('fine')").await, "fine");
        }
        // Without an end to its work either, its processor time ends it.
        let program = handler(
            "let n = 0; return new Response(new ReadableStream({ async pull(c) { await scheduler.wait(1); if (++n > 3) for (;;); c.enqueue(new Uint8Array(9)) } }))",
        );
        let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        assert!(answer.body.is_err());
    });
}

/// What a function does that uses most of the platform.
const WORK: &str = r#"
    const out = [];
    const read = await fetch("http://o/x", { method: "POST", headers: { a: "1" }, body: new Blob(["b"]) });
    out.push(read.status, (await read.text()).length, [...request.headers].length, request.url, request.cf.country);
    await new Promise((resolve) => setTimeout(resolve, 0));
    queueMicrotask(() => out.push(1));
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    writer.write(new TextEncoder().encode("stream"));
    writer.close();
    out.push(await new Response(readable.pipeThrough(new CompressionStream("gzip")).pipeThrough(new DecompressionStream("gzip"))).text());
    out.push((await crypto.subtle.digest("SHA-256", new Uint8Array(3))).byteLength, crypto.randomUUID().length);
    out.push(new URL("a?b=c", "http://d/").searchParams.get("b"), structuredClone({ a: [1] }).a, btoa(atob("aaaa")));
    const form = new FormData();
    form.set("k", new File(["v"], "f.txt"));
    out.push((await new Request("http://o/", { method: "POST", body: form }).formData()).get("k").name);
    out.push((await env.LIMITER.limit({ key: "k" })).success, env.GREETING);
    console.log("%s", out, new Map([[1, { a: new Headers({ x: "y" }) }]]));
    ctx.waitUntil(Promise.resolve());
    return Response.json(out, { headers: { "set-cookie": "a=b" } });
"#;

/// Replaces every function and accessor of the built-in objects, one at a time, by one that throws, one that gives nothing,
/// and one that does as before; each looks whether it is handed something of the platform. The function may fail in any
/// way; nothing else may happen.
#[test]
fn poisoned_prototypes_hurt_only_whoever_poisoned_them() {
    const POISON: &str = r#"
        const roots = [
          Object, Function, Array, String, Number, Boolean, Symbol, RegExp, Date, Error, Promise, Map, Set, WeakMap, WeakSet, WeakRef,
          FinalizationRegistry, ArrayBuffer, Uint8Array, Uint32Array, Object.getPrototypeOf(Uint8Array), DataView, Proxy, TypeError,
          RangeError, BigInt, Iterator, Headers, Request, Response, Blob, File, FormData, URL, URLSearchParams, ReadableStream,
          ReadableStreamDefaultReader, WritableStream, WritableStreamDefaultWriter, TransformStream, TextEncoder, TextDecoder,
          AbortController, AbortSignal, Event, EventTarget, CompressionStream, DecompressionStream, SubtleCrypto, Crypto,
        ];
        const places = [];
        const gather = (holder) => {
          for (const key of Reflect.ownKeys(holder)) {
            const found = Object.getOwnPropertyDescriptor(holder, key);
            if (!found.configurable || key === "constructor") continue;
            if (typeof found.value === "function" || found.get) places.push([holder, key, found]);
          }
        };
        for (const root of roots) { gather(root); if (root.prototype) gather(root.prototype); }
        for (const holder of [
          JSON, Reflect, Math, globalThis, console, crypto.subtle, [][Symbol.iterator]().__proto__, new Map().entries().__proto__,
          new Set().values().__proto__, ""[Symbol.iterator]().__proto__, (function* () {})().__proto__.__proto__,
          (async function* () {})().__proto__.__proto__, (async () => {}).__proto__,
        ]) gather(holder);
        // What is not there, but would be found.
        for (const key of ["get", "set", "value", "then", "writable", "enumerable", "configurable", "status", "headers", "body", "signal",
          "type", "highWaterMark", "size", "start", "pull", "transform", "flush", "cancel", "name", "kind", "0", "1", "length", "done"]) {
          places.push([Object.prototype, key, undefined]);
          places.push([Array.prototype, key === "length" ? "x" : key, undefined]);
        }
        const state = { leaks: [] };
        const { apply, defineProperty } = Reflect;
        const { toString } = Function.prototype;
        const isInternal = (value) => {
          if (typeof value !== "function") return false;
          let text = "";
          try { text = apply(toString, value, []); } catch {}
          return text.startsWith("function async_op_") || text.startsWith("function op_") || (text.includes("[native code]") && /^op_/.test(value.name));
        };
        function poison(place, way) {
          const [holder, key, found] = place;
          const original = found?.value ?? found?.get;
          const act = function (...args) {
            for (const value of [this, ...args]) if (isInternal(value)) state.leaks.push(String(key));
            if (way === 0) throw new Error("poisoned");
            if (way === 1) return undefined;
            return original === undefined ? undefined : apply(original, this, args);
          };
          try {
            if (found === undefined) defineProperty(holder, key, { get: act, set: act, configurable: true });
            else if (found.get) defineProperty(holder, key, { get: act, set: found.set, configurable: true });
            else defineProperty(holder, key, { value: act, writable: true, configurable: true });
          } catch {}
        }
    "#;
    const PARTS: usize = 7;
    with_worker(|worker| async move {
        let program = |place: usize, way: u8| {
            let source = format!(
                "{POISON} export default {{ async fetch(request, env, ctx) {{
                   poison(places[{place}], {way});
                   let response, failure;
                   try {{ response = await (async () => {{ {WORK} }})(); }} catch (error) {{ failure = error; }}
                   if (state.leaks.length > 0) throw `leaked: ${{state.leaks[0]}}`;
                   if (response === undefined) throw failure;
                   return response; }} }};"
            );
            program_of(&[("index.js", &source)], &[("cpu_ms", 2_000), ("startup_ms", 2_000), ("wall_ms", 5_000)])
        };
        let count = program_of(
            &[("index.js", &format!("{POISON} export default {{ fetch: () => new Response(places.length) }};"))],
            &[],
        );
        let count: usize = ask(&worker, &count, request("GET", "/", "")).await.unwrap().body.unwrap().parse().unwrap();
        assert!(count > 800, "{count}");
        // A part of the places is looked at in each run: the rest of the division by the part's number.
        let part = std::process::id() as usize % PARTS;
        for place in (part..count).step_by(PARTS) {
            for way in 0..3 {
                let poisoned = program(place, way);
                match ask(&worker, &poisoned, request("GET", "/", "")).await {
                    Ok(answer) => assert!(answer.status == 200, "{place} {way}: {answer:?}"),
                    Err(failure) => {
                        let (code, message) = (failure.fault.code(), failure.fault.to_string());
                        assert!(code.starts_with("function/") || code.starts_with("limit/"), "{place} {way}: {code}");
                        assert!(!message.contains("leaked: "), "{place} {way}: {message}");
                    }
                }
                worker.retain(|version| version != poisoned.version);
            }
            assert_eq!(text(&worker, "return new Response('fine')").await, "fine", "after {place}");
        }
    });
}
