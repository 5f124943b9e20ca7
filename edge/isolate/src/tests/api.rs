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

/// Runs each body and compares what it answers; a thrown error is answered as its name.
async fn check(worker: &Worker, cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        let program = handler(&format!(
            "const run = async () => {{ {body} }}; try {{ return new Response(String(await run())) }} catch (e) {{ return new Response(e.name) }}"
        ));
        let answer = ask(worker, &program, request("GET", "/path?q=1", "")).await;
        let answer = answer.unwrap_or_else(|failure| panic!("{body}: {failure:?}"));
        assert_eq!(answer.body.unwrap(), *expected, "{body}");
    }
}

#[test]
fn headers_keep_to_the_standard() {
    with_worker(|worker| async move {
        check(&worker, &[
            ("return new Headers(null)", "TypeError"),
            ("return new Headers('x')", "TypeError"),
            ("return new Headers([['a']])", "TypeError"),
            ("return new Headers([['a', undefined]]).get('a')", "undefined"),
            ("return new Headers({ a: '  x\\t' }).get('A')", "x"),
            ("return new Headers({ a: 'x\\ny' })", "TypeError"),
            ("return new Headers({ a: '€' })", "TypeError"),
            ("return new Headers(new Map([['x', '1']])).get('x')", "1"),
            ("const h = new Headers({ a: 1, b: 2 }); return [h.has('A'), h.has('c'), h.get('c'), h.delete('a'), [...h.keys()]]", "true,false,,,b"),
            ("const h = new Headers({ a: 1, b: 2, c: 3 }); const seen = []; for (const [k] of h) { seen.push(k); if (k === 'a') { h.delete('b'); h.append('d', 4) } } return seen", "a,c,d"),
            ("const h = new Headers({ b: 2, a: 1 }); const seen = []; h.forEach(function (v, k, o) { seen.push(k + v + (o === h) + this.t) }, { t: '!' }); return seen", "a1true!,b2true!"),
            ("const h = new Headers({ 'set-cookie': 'a=1' }); h.append('Set-Cookie', 'b=2'); return [h.getSetCookie().length, [...h].length, h.get('set-cookie'), h.getAll('set-cookie')[1]]", "2,2,a=1, b=2,b=2"),
            ("const h = new Headers(request.headers); h.set('x-test', 'changed'); return [h.get('x-test'), request.headers.get('x-test')]", "changed,yes"),
            ("const i = new Headers({ a: 1 }).entries(); return [String(i), i[Symbol.iterator]() === i, JSON.stringify(i.next()), i.next().done]", "[object Headers Iterator],true,{\"value\":[\"a\",\"1\"],\"done\":false},true"),
        ])
        .await;
    });
}

#[test]
fn responses_keep_to_the_standard() {
    with_worker(|worker| async move {
        check(&worker, &[
            ("return Response.redirect('http://a/b', '301').status", "301"),
            ("return Response.redirect('http://a/b', 200)", "RangeError"),
            ("return Response.redirect('/relative')", "TypeError"),
            ("const r = Response.json({ a: 1 }, { status: 418, statusText: 'Tea', headers: { 'x-a': 'b' } }); return [r.status, r.statusText, r.headers.get('x-a'), r.headers.get('content-type'), await r.text()]", "418,Tea,b,application/json,{\"a\":1}"),
            ("return Response.json(undefined)", "TypeError"),
            ("return Response.json(1, { status: 204 })", "TypeError"),
            ("return [204, 205, 304].map((status) => new Response(null, { status }).status)", "204,205,304"),
            ("return new Response('', { status: 204 })", "TypeError"),
            ("return new Response('x', { status: 199 })", "RangeError"),
            ("return new Response('x', { statusText: 'no\\nline' })", "TypeError"),
            ("const r = new Response(); return [r.status, r.type, r.ok, r.url, r.statusText, r.redirected, r.body, Response.error().type]", "200,default,true,,,false,,error"),
            ("const r = new Response('x', { status: 201, headers: { a: 'b' } }); const c = r.clone(); r.headers.set('a', 'c'); return [c.status, c.headers.get('a'), await c.text(), await r.text()]", "201,b,x,x"),
            ("return [new Response(new URLSearchParams({ a: 'b c' })), new Response(new Blob(['x'], { type: 'A/B' })), new Response('x'), new Response(new Uint8Array(1))].map((r) => r.headers.get('content-type'))", "application/x-www-form-urlencoded;charset=UTF-8,a/b,text/plain;charset=UTF-8,"),
            ("return [await new Response({ toString: () => 'obj' }).text(), await new Response(5).text(), (await new Response(new DataView(new ArrayBuffer(3))).bytes()).length]", "obj,5,3"),
            ("return (await new Response('\\ufeffA').text()).length + (await new Response(new Uint8Array([0xef, 0xbb, 0xbf, 65])).text()).length", "2"),
            ("return await new Response('nope').json()", "SyntaxError"),
            ("return (await new Response(new URLSearchParams({ a: 'b c' })).formData()).get('a')", "b c"),
        ])
        .await;
    });
}

#[test]
fn requests_keep_to_the_standard() {
    with_worker(|worker| async move {
        check(&worker, &[
            ("return new Request('/relative')", "TypeError"),
            ("return new Request('http://user:secret@a/')", "TypeError"),
            ("return new Request('http://a', { method: 'TRACE' })", "TypeError"),
            ("return new Request('http://a', { body: 'x' })", "TypeError"),
            ("return new Request('http://a', { redirect: 'x' })", "TypeError"),
            ("return new Request('http://a', { signal: 5 })", "TypeError"),
            ("return [new Request('http://a', { method: 'post' }).method, new Request('http://a', { method: 'patch' }).method]", "POST,patch"),
            ("const r = new Request('http://a/b#c'); return [r.url, r.method, r.redirect, r.signal.aborted, r.body, r.bodyUsed]", "http://a/b#c,GET,follow,false,,false"),
            ("const r = new Request(new Request('http://a', { headers: { x: '1' }, redirect: 'error' }), { method: 'PUT', body: 'b' }); return [r.method, r.redirect, r.headers.get('x'), await r.text()]", "PUT,error,1,b"),
            ("const r = new Request(request, { headers: { a: 'b' } }); return [r.headers.get('a'), r.headers.get('x-test'), r.url === request.url, r.method, r.redirect]", "b,,true,GET,manual"),
            ("return [new Request(request).cf.country, request.clone().cf.country, new Request(request, { cf: { x: 1 } }).cf.x]", "JP,JP,1"),
            ("return [request.signal === request.signal, new Request(request).signal === request.signal, request.signal.aborted]", "true,true,false"),
            ("const c = new AbortController(); const a = new Request('http://a', { signal: c.signal }); const b = new Request(a); c.abort(); return [a.signal.aborted, b.signal.aborted, new Request(b, { signal: null }).signal.aborted]", "true,true,false"),
            ("const c = new AbortController(); const a = new Request('http://a', { signal: c.signal }); c.abort(new RangeError()); await fetch(a)", "RangeError"),
            ("const r = new Request('http://a', { method: 'POST', body: new FormData() }); return r.headers.get('content-type').slice(0, 30)", "multipart/form-data; boundary="),
        ])
        .await;
    });
}

#[test]
fn forms_go_out_and_come_back() {
    with_worker(|worker| async move {
        check(&worker, &[
            (
                "const f = new FormData(); f.append('a', '1\\n2'); f.append('a', 'é'); f.append('q\"uo', new File(['file'], 'n\"\\r\\n.txt', { type: 'text/x' })); f.append('blob', new Blob(['b'])); f.set('s', 'x');
                 const g = await new Response(f).formData(); return [[...g.keys()], JSON.stringify(g.getAll('a')), JSON.stringify(g.get('q\"uo').name), g.get('q\"uo').type, await g.get('q\"uo').text(), g.get('blob').name, g.has('none'), g.get('none')]",
                "a,a,q\"uo,blob,s,[\"1\\r\\n2\",\"é\"],\"n\\\"\\r\\n.txt\",text/x,file,blob,false,",
            ),
            (
                "const text = '--b\\r\\ncontent-disposition: form-data; name=plain\\r\\n\\r\\nv\\r\\n--b\\r\\nContent-Disposition: form-data; filename=\"f.bin\"; name=\"f\"\\r\\nContent-Type: application/x\\r\\n\\r\\n\\r\\n--b--';
                 const g = await new Response(text, { headers: { 'content-type': 'multipart/form-data; boundary=b' } }).formData(); return [g.get('plain'), g.get('f').name, g.get('f').size, g.get('f').type]",
                "v,f.bin,0,application/x",
            ),
            ("return await new Response('x').formData()", "TypeError"),
            ("return await new Response('--b\\r\\nbad', { headers: { 'content-type': 'multipart/form-data; boundary=b' } }).formData()", "TypeError"),
            ("new FormData().append('a', 'b', 'name')", "TypeError"),
            ("const f = new FormData(); f.append('a', 1); f.append('b', 2); f.append('a', 3); f.set('a', 4); f.delete('b'); return [...f].join(';')", "a,4"),
        ])
        .await;
    });
}

#[test]
fn blobs_and_streams_keep_to_the_standard() {
    with_worker(|worker| async move {
        check(&worker, &[
            ("const b = new Blob(['hello ', new Uint8Array([119]), new Blob(['orld'])], { type: 'Text/Plain' }); return [b.size, b.type, await b.slice(6, -1).text(), await b.slice(-3).text(), (await b.arrayBuffer()).byteLength, await new Response(b.stream()).text(), b.slice(0, 1, 'a/b').type]", "11,text/plain,worl,rld,11,hello world,a/b"),
            ("const f = new File(['x'], 'n.txt', { type: 'text/plain', lastModified: 5 }); return [f.name, f.size, f.type, f.lastModified, f instanceof Blob, String(f)]", "n.txt,1,text/plain,5,true,[object File]"),
            ("const bytes = new Uint8Array([1]); const b = new Blob([bytes]); bytes[0] = 2; (await b.bytes())[0] = 3; return (await b.bytes())[0]", "1"),
            ("return new Blob('text')", "TypeError"),
            ("return await new Blob(['a\\r\\nb\\rc'], { endings: 'native' }).text() === 'a\\nb\\nc'", "true"),
            ("let all = ''; for await (const x of ReadableStream.from(['a', 'b'])) all += x; return all", "ab"),
            ("return await new Response(ReadableStream.from(['a']).pipeThrough(new TextEncoderStream())).text()", "a"),
            ("return await new Response(ReadableStream.from(['a'])).text()", "TypeError"),
            ("const { readable, writable } = new TransformStream({ transform(c, k) { k.enqueue(c * 2) } }); const w = writable.getWriter(); w.write(1); w.write(2); w.close(); return await Array.fromAsync(readable)", "2,4"),
            ("const [a, b] = new Blob(['tee']).stream().tee(); return await new Response(a).text() + await new Response(b).text()", "teetee"),
            ("const { value } = await new Blob(['byob']).stream().getReader({ mode: 'byob' }).read(new Uint8Array(2)); return new TextDecoder().decode(value)", "by"),
            ("let all = ''; await new Blob(['pipe']).stream().pipeThrough(new TextDecoderStream()).pipeTo(new WritableStream({ write(c) { all += c } })); return all", "pipe"),
            ("await new ReadableStream({ start(c) { c.error(new RangeError('e')) } }).getReader().read()", "RangeError"),
        ])
        .await;
    });
}

#[test]
fn timers_signals_and_events_work() {
    with_worker(|worker| async move {
        check(&worker, &[
            ("return await new Promise((r) => setTimeout((...a) => r(a), 1, 1, 2))", "1,2"),
            ("return await new Promise((r) => { let n = 0; const i = setInterval((x) => { if (++n === 3) { clearInterval(i); r(n + x) } }, 1, 'x') })", "3x"),
            ("const t = setTimeout(() => { throw 1 }, 1); clearTimeout(t); await scheduler.wait(5); return 'clear'", "clear"),
            ("await scheduler.wait(1000, { signal: AbortSignal.timeout(1) })", "TimeoutError"),
            ("const s = AbortSignal.any([AbortSignal.timeout(5), new AbortController().signal]); await new Promise((r) => s.addEventListener('abort', r)); return s.reason.name", "TimeoutError"),
            ("const c = new AbortController(); let n = 0; c.signal.onabort = () => n++; c.abort(); c.abort(); return [n, c.signal.reason.name]", "1,AbortError"),
            ("const e = new EventTarget(); let n = 0; e.addEventListener('x', (v) => n += v.detail ?? 0, { once: true }); e.dispatchEvent(new CustomEvent('x', { detail: 2 })); e.dispatchEvent(new Event('x')); return n", "2"),
        ])
        .await;
    });
}

#[test]
fn the_language_and_its_libraries_are_whole() {
    with_worker(|worker| async move {
        check(&worker, &[
            ("return [globalThis === self, navigator.userAgent, typeof window, typeof process, typeof caches, typeof URL.createObjectURL]", "true,Skerry,undefined,undefined,object,undefined"),
            ("return structuredClone({ a: new Map([[1, new Set([2])]]), b: new Uint8Array(2) }).a.get(1).has(2)", "true"),
            ("const b = new ArrayBuffer(4); const c = structuredClone({ b }, { transfer: [b] }); return [b.detached, b.byteLength, c.b.byteLength]", "true,0,4"),
            ("structuredClone(1, { transfer: [{}] })", "DataCloneError"),
            ("return [new Intl.NumberFormat('de-DE').format(1234.5), new Intl.DateTimeFormat('en-GB', { timeZone: 'Asia/Tokyo', timeStyle: 'short' }).format(new Date(0)), ['ä', 'z', 'a'].sort(new Intl.Collator('de').compare)]", "1.234,5,09:00,a,ä,z"),
            ("return [new Date(0).getTimezoneOffset(), Intl.DateTimeFormat().resolvedOptions().timeZone, Math.abs(Date.now() - new Date()) < 100]", "0,UTC,true"),
            ("return [new WeakRef(globalThis).deref() === globalThis, new Set([1]).union(new Set([2])).size, Object.groupBy([1, 2], (x) => x % 2).length, Iterator.from([1]).map((x) => x * 2).toArray()]", "true,2,,2"),
            ("return [new TextDecoder('utf-16le').decode(new Uint8Array([65, 0])), new TextDecoder('shift_jis').decode(new Uint8Array([0x82, 0xa0])), new TextEncoder().encodeInto('é', new Uint8Array(5)).written]", "A,あ,2"),
            ("const d = new TextDecoder(); return d.decode(new Uint8Array([0xe2, 0x82]), { stream: true }) + d.decode(new Uint8Array([0xac]))", "€"),
            ("new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([0xff]))", "TypeError"),
            ("return [new URLPattern('https://*.a.com/:id(\\\\d+)').exec('https://x.a.com/12').pathname.groups.id, new URLPattern({ pathname: '/a' }).test('http://h/b')]", "12,false"),
            ("return [new URLSearchParams('a=1&b=2&a=3').getAll('a'), URL.canParse('http://a'), URL.parse('x')]", "1,3,true,"),
            ("await import('./nope.js')", "TypeError"),
        ])
        .await;
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

/// Headers of another message stay a flat string for as long as they can: nobody shall be able to tell.
#[test]
fn headers_that_are_still_flat_do_what_a_list_does() {
    const PLAY: &str = r#"
        const fetched = await fetch("http://o/h", { headers: [["a", "1"], ["b", "echo-a"], ["b", "2"], ["set-cookie", "x=1"]] });
        let seed = 7;
        const next = (below) => (seed = (seed * 1103515245 + 12345) % 2147483648) % below;
        const names = ["echo-a", "echo-b", "1", "new", "other", "set-cookie", "content-encoding", "X-Up"];
        const values = ["1", "", "echo-a", "a, b", " trimmed ", "gzip"];
        for (let round = 0; round < 400; round++) {
            const from = round % 2 === 0 ? fetched.headers : request.headers;
            const flat = new Response(null, { headers: from }).headers;
            const list = new Headers([...from]);
            const done = [];
            for (let n = next(14); n >= 0; n--) {
                const [name, value] = [names[next(names.length)], values[next(values.length)]];
                const act = [
                    (h) => h.set(name, value), (h) => h.append(name, value), (h) => h.set(name, value),
                    (h) => h.append(name, value), (h) => h.delete(name), (h) => h.get(name), (h) => h.has(name),
                    (h) => [...new Response(null, { headers: h }).headers].join(), (h) => h.getSetCookie().join(),
                ][next(9)];
                done.push(`${act}`.slice(7, 13), name, value);
                const [one, two] = [act(flat), act(list)];
                if (one !== two) return new Response(`${done}: ${one} is not ${two}`);
            }
            const [one, two] = [JSON.stringify([...flat]), JSON.stringify([...list])];
            if (one !== two) return new Response(`${done}: ${one} is not ${two}`);
        }
        return new Response("alike");"#;
    with_worker(|worker| async move {
        let mut request = request("GET", "/", "");
        request.headers_mut().append("echo-b", "v".parse().unwrap());
        request.headers_mut().append("cookie", "a=1".parse().unwrap());
        let answer = ask(&worker, &handler_with(PLAY, &[("cpu_ms", 5_000)]), request).await.unwrap();
        assert_eq!(answer.body.unwrap(), "alike");
    });
}

/// `.body` has the parts of a stream only once somebody uses it as one: nobody shall be able to tell.
#[test]
fn the_stream_of_a_body_is_a_stream_however_it_is_first_used() {
    const READ: &str = "let t = ''; for await (const c of s) t += new TextDecoder().decode(c); return t";
    with_worker(|worker| async move {
        for (used, expected) in [
            (READ, "GET http://o/b "),
            ("return (await s.getReader().read()).value.length", "15"),
            ("const r = s.getReader({ mode: 'byob' }); return (await r.read(new Uint8Array(3))).value", "71,69,84"),
            (
                "const [a, b] = s.tee(); return await new Response(a).text() + await new Response(b).text()",
                "GET http://o/b GET http://o/b ",
            ),
            (
                "const { readable, writable } = new TransformStream(); s.pipeTo(writable); return await new Response(readable).text()",
                "GET http://o/b ",
            ),
            (
                "return await new Response(s.pipeThrough(new TextDecoderStream()).pipeThrough(new TextEncoderStream())).text()",
                "GET http://o/b ",
            ),
            (
                "return [s.locked, r.bodyUsed, s.getReader() instanceof ReadableStreamDefaultReader, s.locked, r.bodyUsed]",
                "false,false,true,true,false",
            ),
            ("await s.cancel(); return [r.bodyUsed, s.locked]", "true,false"),
            ("await r.text(); return [s.locked, r.bodyUsed, s === r.body]", "true,true,true"),
            ("await r.text(); try { new Response(s) } catch (e) { return e.name }", "TypeError"),
            ("await r.text(); try { await s.cancel() } catch (e) { return e.name }", "TypeError"),
            (
                "const c = r.clone(); return [s.locked, r.body === s, await c.text() === await r.text()]",
                "true,false,true",
            ),
            ("s.getReader(); try { new Response(s) } catch (e) { return e.name }", "TypeError"),
            ("s.getReader(); try { await r.text() } catch (e) { return e.name }", "TypeError"),
            (
                "const two = new Response(s); await two.text(); return [r.bodyUsed, s.locked, two.body === s]",
                "true,true,true",
            ),
            (
                "const two = new Response(s); const reader = s.getReader(); try { await two.text() } catch (e) { return e.name }",
                "TypeError",
            ),
            (
                "return [s instanceof ReadableStream, `${s}`, s.constructor === ReadableStream, 'getReader' in s]",
                "true,[object ReadableStream],true,true",
            ),
            (
                "s.locked; return [Object.getPrototypeOf(s) === ReadableStream.prototype, Reflect.ownKeys(s).length === Reflect.ownKeys(new ReadableStream({ type: 'bytes' })).length]",
                "true,true",
            ),
            ("try { structuredClone(s) } catch (e) { return e.name }", "DataCloneError"),
            ("const sub = Object.create(s); try { return sub.locked } catch (e) { return e.name }", "TypeError"),
            (
                "const keys = Object.getOwnPropertySymbols(Object.getPrototypeOf(s)); const p = Object.getPrototypeOf(s); const seen = keys.map((k) => Object.getOwnPropertyDescriptor(p, k)?.get?.call({})); return seen.some((v) => v !== undefined && v !== 'ReadableStream')",
                "false",
            ),
        ] {
            for of in [
                "const r = await fetch('http://o/b')",
                "const r = new Response('GET http://o/b ')",
                "const r = new Response(new TextEncoder().encode('GET http://o/b '))",
                "const first = await fetch('http://o/b'); const r = new Response(first.body, first)",
            ] {
                let body =
                    format!("{of}; const s = r.body; return new Response(String(await (async () => {{ {used} }})()))");
                assert_eq!(text(&worker, &body).await, expected, "{body}");
            }
        }
    });
}

/// Those of an incoming request go out again without having been in JavaScript, unless it changed them.
#[test]
fn a_request_goes_on_with_its_fields_or_with_the_changed_ones() {
    with_worker(|worker| async move {
        const SHOWN: &str =
            "new Response(JSON.stringify([...(await fetch(sent)).headers].filter((h) => h[0] !== 'echo-host')))";
        for (made, expected) in [
            ("request", r#"[["echo-x-test","yes"]]"#),
            ("new Request('http://o/', request)", r#"[["echo-x-test","yes"]]"#),
            ("new Request(request, { redirect: 'follow' })", r#"[["echo-x-test","yes"]]"#),
            ("request.clone()", r#"[["echo-x-test","yes"]]"#),
            ("new Request('http://o/', { headers: request.headers })", r#"[["echo-x-test","yes"]]"#),
            ("(request.headers.get('x-test'), request)", r#"[["echo-x-test","yes"]]"#),
            ("([...request.headers], request)", r#"[["echo-x-test","yes"]]"#),
            (
                "(() => { const r = new Request(request); r.headers.set('b', '2'); return r })()",
                r#"[["echo-b","2"],["echo-x-test","yes"]]"#,
            ),
            (
                "(() => { const r = new Request(request); r.headers.set('x-test', 'no'); return r })()",
                r#"[["echo-x-test","no"]]"#,
            ),
            ("(() => { const r = new Request(request); r.headers.delete('x-test'); return r })()", "[]"),
            ("new Request(request, { headers: {} })", "[]"),
        ] {
            let body = format!("const sent = {made}; return {SHOWN}");
            assert_eq!(text(&worker, &body).await, expected, "{made}");
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
fn a_module_may_await_at_its_top_level_and_import_others_later() {
    with_worker(|worker| async move {
        let program = program_of(
            &[
                ("a.js", "const ready = await Promise.resolve('ready'); await crypto.subtle.digest('SHA-256', new Uint8Array(1));
                  export default { async fetch() { const { late } = await import('./late.js'); const { default: data } = await import('./d.json', { with: { type: 'json' } }); return new Response(ready + late() + data.x + import.meta.url) } }"),
                ("d.json", r#"{ "x": 7 }"#),
                ("late.js", "export function late() { return 'late' }"),
            ],
            &[],
        );
        assert_eq!(
            ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap(),
            "readylate7file:///a.js"
        );
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
fn the_signal_of_a_request_aborts_when_its_client_goes() {
    with_worker(|worker| async move {
        let program = handler(
            "const derived = new Request(request, { method: 'PUT', body: 'x' });
             ctx.waitUntil(new Promise((resolve) => derived.signal.addEventListener('abort', () => { console.log(request.signal.reason.name, request.signal.aborted); resolve() })));
             await scheduler.wait(10000); return new Response('nobody waits for this')",
        );
        let echo = Rc::new(Echo::default());
        let invoked = worker.invoke(&program, request("GET", "/", ""), Rc::clone(&echo) as _);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), invoked).await.is_err());
        for _ in 0..200 {
            if !echo.log.borrow().is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(*echo.log.borrow(), ["2 AbortError true"]);
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
