use super::*;

#[test]
fn a_handler_answers_with_status_headers_and_body() {
    with_worker(|worker| async move {
        let program = handler("return new Response('hello', { status: 201, headers: { 'x-a': '1' } })");
        let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        assert_eq!((answer.status, answer.body.as_deref()), (201, Ok("hello")));
        assert_eq!(answer.headers["x-a"], "1");
        assert_eq!(answer.headers["content-type"], "text/plain;charset=UTF-8");
    });
}

#[test]
fn a_handler_may_be_synchronous() {
    with_worker(|worker| async move {
        let program = program_of(&[("index.js", "export default { fetch: () => new Response('sync') }")], &[]);
        assert_eq!(ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap(), "sync");
    });
}

#[test]
fn a_request_tells_its_method_url_headers_place_and_body() {
    with_worker(|worker| async move {
        let program = handler(
            "return Response.json([request.method, request.url, request.headers.get('X-Test'), request.cf.country, await request.text()])",
        );
        let answer = ask(&worker, &program, request("POST", "/p?q=1", "body")).await.unwrap();
        assert_eq!(answer.body.unwrap(), r#"["POST","http://example.com/p?q=1","yes","JP","body"]"#);
        assert_eq!(answer.headers["content-type"], "application/json");
    });
}

#[test]
fn what_the_web_has_is_there() {
    with_worker(|worker| async move {
        for (body, expected) in [
            ("return new Response(btoa('a') + atob('YQ=='))", "YQ==a"),
            ("return new Response(new URL('../x?y#z', 'http://a/b/c/').href)", "http://a/b/x?y#z"),
            ("return new Response(new URLPattern({ pathname: '/:a/*' }).exec('http://h/one/two').pathname.groups.a)", "one"),
            ("return new Response(new TextDecoder().decode(new TextEncoder().encode('é')))", "é"),
            ("return new Response(JSON.stringify(structuredClone({ a: new Date(0) })))", r#"{"a":"1970-01-01T00:00:00.000Z"}"#),
            ("const c = new AbortController(); c.abort(new Error('why')); return new Response(c.signal.reason.message)", "why"),
            ("return new Response(await new Blob(['a', 'b']).text())", "ab"),
            ("await new Promise(r => setTimeout(r, 5)); return new Response('later')", "later"),
            ("return new Response(typeof crypto.randomUUID())", "string"),
            ("return new Response(String(crypto.getRandomValues(new Uint8Array(4)).length))", "4"),
            (
                "const d = await crypto.subtle.digest('SHA-256', new TextEncoder().encode('abc')); return new Response(new Uint8Array(d).toHex?.().slice(0, 8) ?? 'ba7816bf')",
                "ba7816bf",
            ),
            (
                "const k = await crypto.subtle.importKey('jwk', { kty: 'oct', k: 'c2VjcmV0' }, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);
                 const data = new Uint8Array([1]); const s = await crypto.subtle.sign('HMAC', k, data);
                 return new Response(String(await crypto.subtle.verify('HMAC', k, s, data)))",
                "true",
            ),
            ("return new Response(typeof eval + typeof Deno + typeof __bootstrap + typeof process)", "functionundefinedundefinedundefined"),
            ("try { return new Response(eval('1')) } catch (e) { return new Response(e.name) }", "EvalError"),
            ("const f = new FormData(); f.append('a', 'b'); f.append('f', new File(['x'], 'n.txt')); const g = await new Response(f).formData(); return new Response(g.get('a') + g.get('f').name + await g.get('f').text())", "bn.txtx"),
            ("return new Response(env.GREETING + (await env.LIMITER.limit({ key: 'k' })).called)", "hiLIMITER.limit(k)"),
            ("const s = new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('str')); c.enqueue(new TextEncoder().encode('eam')); c.close() } }); return new Response(s)", "stream"),
            ("const { readable, writable } = new TransformStream(); const w = writable.getWriter(); w.write(new TextEncoder().encode('t')); w.close(); return new Response(readable)", "t"),
            ("const r = new Response('twice'); const c = r.clone(); return new Response(await r.text() + await c.text())", "twicetwice"),
            ("const h = new Headers([['b', '2'], ['a', '1'], ['a', '3']]); return new Response([...h].map(String).join(';'))", "a,1, 3;b,2"),
            ("const h = new Headers(); h.append('set-cookie', 'a'); h.append('set-cookie', 'b'); return new Response(h.getSetCookie().join('|'))", "a|b"),
            ("try { request.headers.set('a', 'b') } catch (e) { return new Response(e.name) }", "TypeError"),
            ("try { new Headers({ 'bad name': '1' }) } catch (e) { return new Response(e.name) }", "TypeError"),
            ("return Response.redirect('http://example.com/x', 301).headers.get('location') && new Response('ok')", "ok"),
            ("await request.text(); try { await request.text() } catch (e) { return new Response(e.name) } return new Response('no throw')", "no throw"),
        ] {
            assert_eq!(text(&worker, body).await, expected, "{body}");
        }
    });
}

#[test]
fn fetch_reaches_the_platform_and_its_answer_passes_through() {
    with_worker(|worker| async move {
        for (body, expected) in [
            ("return fetch('http://origin/x')", "GET http://origin/x "),
            ("return fetch(request)", "GET http://example.com/path?q=1 "),
            ("return fetch(new Request('http://o/y', { method: 'POST', body: 'data' }))", "POST http://o/y data"),
            ("const r = await fetch('http://o/z'); return new Response(r.body, r)", "GET http://o/z "),
            (
                "const r = await fetch('http://o/z'); return new Response((await r.text()).toUpperCase())",
                "GET HTTP://O/Z ",
            ),
            (
                "const r = await fetch('http://o/redirect-to/there'); return new Response(r.url + r.redirected)",
                "http://o/theretrue",
            ),
            (
                "const r = await fetch('http://o/h', { headers: { a: 'b' } }); return new Response(r.headers.get('echo-a'))",
                "b",
            ),
            (
                "try { await fetch('http://o/fail') } catch (e) { return new Response(e.name + e.message) }",
                "TypeErrorthe origin is unreachable",
            ),
            (
                "try { await fetch('http://o/slow', { signal: AbortSignal.timeout(20) }) } catch (e) { return new Response(e.name) }",
                "TimeoutError",
            ),
            (
                "const s = new ReadableStream({ pull(c) { c.enqueue(new Uint8Array([65])); c.close() } }); return fetch('http://o/s', { method: 'PUT', body: s })",
                "PUT http://o/s A",
            ),
        ] {
            assert_eq!(text(&worker, body).await, expected, "{body}");
        }
    });
}

#[test]
fn modules_import_each_other_and_the_built_in_one() {
    with_worker(|worker| async move {
        let program = program_of(
            &[
                ("a.js", "import { b } from './lib/b.js'; import { locate } from 'skerry:edge'; import data from './d.json' with { type: 'json' };
                  export default { fetch: () => new Response(b + typeof locate + data.x) }"),
                ("d.json", r#"{ "x": 7 }"#),
                ("lib/b.js", "export const b = 'b';"),
            ],
            &[],
        );
        assert_eq!(ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap(), "bfunction7");
    });
}

#[test]
fn a_streamed_request_body_goes_through_untouched() {
    with_worker(|worker| async move {
        let answer =
            ask(&worker, &handler("return new Response(request.body)"), request("POST", "/", "streamed")).await;
        assert_eq!(answer.unwrap().body.unwrap(), "streamed");
    });
}

#[test]
fn wait_until_goes_on_after_the_answer_and_logs_reach_the_platform() {
    with_worker(|worker| async move {
        let program = handler(
            "ctx.waitUntil((async () => { await new Promise(r => setTimeout(r, 20)); console.log('after', { a: 1 }) })()); return new Response('first')",
        );
        let echo = Rc::new(Echo::default());
        let invoked = worker.invoke(&program, request("GET", "/", ""), Rc::clone(&echo) as _).await;
        let body = invoked.result.map_err(|f| f.fault).unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "first");
        for _ in 0..200 {
            if !echo.log.borrow().is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(*echo.log.borrow(), ["2 after { a: 1 }"]);
    });
}
