//! Ways around the limits that V8 itself or the crates leave open, closed.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_sort_of_millions_of_numbers_ends_at_the_limit_on_processor_time() {
    with_worker(|worker| async move {
        for sort in ["a.sort()", "a.toSorted()", "new BigUint64Array(a.buffer).sort()"] {
            let program = handler_with(
                &format!(
                    "const a = new Float64Array(16e6); for (let i = 0; i < a.length; i++) a[i] = (i * 7919) % 15485863; {sort}; return new Response('sorted')"
                ),
                &[("cpu_ms", 400), ("buffer_bytes", 512 << 20)],
            );
            let began = Instant::now();
            assert_eq!(fault(&worker, &program).await.code(), "limit/cpu", "{sort}");
            // V8's own sort of as many takes four seconds, whatever the limit is.
            assert!(began.elapsed() < Duration::from_millis(2_500), "{sort}: {:?}", began.elapsed());
        }
    });
}

#[test]
fn a_large_sort_gives_what_the_standard_says() {
    with_worker(|worker| async move {
        let program = handler_with(
            "const out = [];
             const order = (a, b) => a < b ? -1 : a > b ? 1 : a === b ? (a === 0 ? (Object.is(b, -0) - Object.is(a, -0)) : 0) : (a !== a) - (b !== b);
             for (const TypedArray of [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float16Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array]) {
               const big = TypedArray.name.startsWith('Big');
               for (const length of [65536, 65537, 200001]) {
                 const a = new TypedArray(length + 3).subarray(1, length + 1);
                 let seed = 12345;
                 for (let i = 0; i < length; i++) { seed = (seed * 1103515245 + 12345) % 2147483648; a[i] = big ? BigInt(seed - 1e9) : (seed - 1e9) / 1e5 }
                 if (TypedArray.name.startsWith('Float')) { a[5] = NaN; a[length - 9] = NaN; a[7] = -0; a[length - 3] = -0; a[50000] = 0; a[1000] = -Infinity }
                 const expected = Array.from(a).sort(order);
                 const copy = a.toSorted();
                 const same = a.sort() === a;
                 out.push(same && copy !== a && copy.constructor === TypedArray && expected.every((x, i) => Object.is(x, a[i]) && Object.is(x, copy[i])));
               }
             }
             for (const wrong of [[], {}, null, new Proxy(new Uint8Array(9), {})]) { try { Uint8Array.prototype.sort.call(wrong); out.push(false) } catch (e) { out.push(e instanceof TypeError) } }
             try { new Uint8Array(70000).sort('x'); out.push(false) } catch (e) { out.push(e instanceof TypeError) }
             const down = new Float64Array(70000).map((_, i) => i).sort((a, b) => b - a); out.push(down[0] === 69999 && down[69999] === 0);
             const { sort, toSorted } = Uint8Array.prototype; out.push(sort.name === 'sort' && sort.length === 1 && toSorted.name === 'toSorted' && toSorted.length === 1 && !('prototype' in sort));
             return new Response([out.length, out.every(Boolean)])",
            &[("cpu_ms", 20_000), ("buffer_bytes", 256 << 20)],
        );
        let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        assert_eq!(answer.body.unwrap(), "43,true");
    });
}

#[test]
fn no_memory_is_shared() {
    with_worker(|worker| async move {
        // A module with (memory (export "m") 1 1 shared).
        let module = "new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 5, 4, 1, 3, 1, 1, 7, 5, 1, 1, 109, 2, 0])";
        for body in [
            "new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true })".to_owned(),
            "new WebAssembly.Memory.prototype.constructor({ initial: 1, maximum: 2, shared: true })".to_owned(),
            "let n = 0; new WebAssembly.Memory({ initial: 1, maximum: 2, get shared() { return n++ > 0 } }).buffer.slice(0); Reflect.construct(Object.getPrototypeOf(class extends WebAssembly.Memory {}), [{ initial: 1, maximum: 1, shared: 1 }])".to_owned(),
            format!("new WebAssembly.Instance(new WebAssembly.Module({module})).exports.m.buffer"),
            format!("new WebAssembly.Instance(new WebAssembly.Module({module})).exports.m.toFixedLengthBuffer()"),
            format!("new WebAssembly.Instance(new WebAssembly.Module({module})).exports.m.toResizableBuffer()"),
            "SharedArrayBuffer".to_owned(),
        ] {
            let body = format!("try {{ {body} }} catch (e) {{ return new Response('refused') }} return new Response('shared')");
            assert_eq!(text(&worker, &body).await, "refused", "{body}");
        }
        assert_eq!(
            text(
                &worker,
                "const m = new WebAssembly.Memory({ initial: 1, maximum: 2 }); m.grow(1); return new Response([m instanceof WebAssembly.Memory, m.buffer.byteLength, WebAssembly.Memory.name, WebAssembly.Memory.length, m.constructor === WebAssembly.Memory])"
            )
            .await,
            "true,131072,Memory,1,true"
        );
    });
}

#[test]
fn microtasks_run_in_order_and_their_errors_are_logged() {
    with_worker(|worker| async move {
        let program = handler(
            "const out = []; queueMicrotask(() => out.push(1)); Promise.resolve().then(() => out.push(2)); queueMicrotask(() => { throw new Error('mine') }); out.push(0);
             await scheduler.wait(1); try { queueMicrotask('x') } catch (e) { out.push(e.name) } return new Response(out)",
        );
        let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        assert_eq!(answer.body.unwrap(), "0,1,2,TypeError");
        assert!(answer.log[0].starts_with("4 Uncaught: Error: mine"), "{:?}", answer.log);
    });
}

#[test]
fn errors_of_the_platform_are_dom_exceptions_with_their_names() {
    with_worker(|worker| async move {
        for (body, expected) in [
            ("atob('a')", "InvalidCharacterError"),
            ("btoa('\\u1234')", "InvalidCharacterError"),
            ("crypto.getRandomValues(new Uint8Array(70000))", "QuotaExceededError"),
            ("crypto.getRandomValues(new Float32Array(1))", "TypeMismatchError"),
            ("await crypto.subtle.digest('NOPE', new Uint8Array())", "NotSupportedError"),
            (
                "await crypto.subtle.importKey('jwk', { kty: 'oct' }, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])",
                "DataError",
            ),
            (
                "await crypto.subtle.importKey('pkcs8', new Uint8Array(3), { name: 'RSA-PSS', hash: 'SHA-256' }, false, ['sign'])",
                "DataError",
            ),
            ("await crypto.subtle.importKey('raw', new Uint8Array(3), 'NOPE', false, ['sign'])", "NotSupportedError"),
            (
                "await crypto.subtle.importKey('raw', new Uint8Array(3), { name: 'HMAC', hash: 'SHA-256' }, false, [])",
                "SyntaxError",
            ),
            (
                "const k = await crypto.subtle.importKey('raw', new Uint8Array(32), { name: 'HMAC', hash: 'SHA-256' }, false, ['verify']); await crypto.subtle.sign('HMAC', k, new Uint8Array())",
                "InvalidAccessError",
            ),
            (
                "const k = await crypto.subtle.importKey('raw', new Uint8Array(32), { name: 'HMAC', hash: 'SHA-256' }, false, ['verify']); await crypto.subtle.exportKey('raw', k)",
                "InvalidAccessError",
            ),
            ("const k = await crypto.subtle.generateKey('AES-GCM', false, ['encrypt'])", "TypeError"),
            (
                "const k = await crypto.subtle.importKey('raw', new Uint8Array(16), 'AES-GCM', false, ['decrypt']); await crypto.subtle.decrypt({ name: 'AES-GCM', iv: new Uint8Array(12) }, k, new Uint8Array(32))",
                "OperationError",
            ),
            ("structuredClone(() => {})", "DataCloneError"),
            ("new AbortController().signal.throwIfAborted(); AbortSignal.abort().throwIfAborted()", "AbortError"),
            ("new URL('not absolute')", "TypeError"),
            ("new TextDecoder('nope')", "RangeError"),
        ] {
            let body = format!(
                "try {{ {body} }} catch (e) {{ return new Response(e.name + (e instanceof DOMException || e instanceof Error)) }} return new Response('no error')"
            );
            assert_eq!(text(&worker, &body).await, format!("{expected}true"), "{body}");
        }
    });
}

#[test]
fn the_clock_is_no_finer_than_a_millisecond() {
    with_worker(|worker| async move {
        let body = "const a = performance.now(); await scheduler.wait(20); const b = performance.now();
            return new Response([b - a >= 19 && b - a < 2000, Number.isInteger(a) && Number.isInteger(b), Math.abs(performance.timeOrigin + b - Date.now()) < 100, JSON.stringify(performance) === JSON.stringify({ timeOrigin: performance.timeOrigin })])";
        assert_eq!(text(&worker, body).await, "true,true,true,true");
    });
}

#[test]
fn a_wasm_module_is_bounded_and_cannot_be_had_from_elsewhere() {
    with_worker(|worker| async move {
        // A module with one custom section of so many bytes.
        let module = |bytes: u32| {
            format!(
                "const bytes = new Uint8Array({bytes} + 14); bytes.set([0, 97, 115, 109, 1, 0, 0, 0, 0]); let n = {bytes}; for (let i = 9; i < 13; i++, n >>= 7) bytes[i] = n & 127 | 128; bytes[13] = n;"
            )
        };
        for (size, expected) in [(1000, "compiled"), (9 << 20, "CompileError")] {
            for compile in [
                "new WebAssembly.Module(bytes)",
                "await WebAssembly.compile(bytes)",
                "await WebAssembly.instantiate(bytes)",
            ] {
                let body = format!(
                    "{} try {{ {compile}; return new Response('compiled') }} catch (e) {{ return new Response(e.name) }}",
                    module(size)
                );
                let program = handler_with(&body, &[("cpu_ms", 20_000)]);
                let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
                assert_eq!(answer.body.unwrap(), expected, "{compile} of {size} bytes");
            }
        }
        for attempt in [
            "WebAssembly.compileStreaming(fetch('http://o/'))",
            "WebAssembly.instantiateStreaming(fetch('http://o/'))",
            "import('./x.wasm')",
        ] {
            let body = format!(
                "try {{ await {attempt} }} catch (e) {{ return new Response(e.name) }} return new Response('ran')"
            );
            assert_eq!(text(&worker, &body).await, "TypeError", "{attempt}");
        }
    });
}
