use super::*;

#[test]
fn a_version_that_does_not_start_says_why_and_where() {
    with_worker(|worker| async move {
        for (source, parts) in [
            ("export default {\n  fetch( { }\n}", &["SyntaxError", "index.js:3"][..]),
            ("const x = 1;\nthrow new Error('at the top');", &["at the top", "index.js:2:7", "throw new Error"]),
            ("export const x = 1;", &["no default export"]),
            ("export default { }", &["no fetch"]),
            ("export default function () {}", &["no fetch"]),
            ("import 'lodash'; export default {}", &["lodash", "not in the bundle"]),
            ("import './other.js'; export default {}", &["other.js", "not in the bundle"]),
            ("await new Promise(() => {}); export default {}", &["never"]),
            ("await fetch('http://o/'); export default {}", &["while a request is handled"]),
        ] {
            let fault = fault(&worker, &program_of(&[("index.js", source)], &[])).await;
            let message = fault.to_string();
            assert_eq!(fault.code(), "function/boot", "{source}: {message}");
            for part in parts {
                assert!(message.contains(part), "{source}: {message:?} lacks {part:?}");
            }
        }
    });
}

#[test]
fn a_handler_that_fails_says_how() {
    with_worker(|worker| async move {
        for (body, code, part) in [
            ("throw new Error('boom')", "function/threw", "boom"),
            ("null.x", "function/threw", "index.js:1"),
            ("throw 'text'", "function/threw", "text"),
            ("return 'text'", "function/invalid-response", "not a Response"),
            ("", "function/invalid-response", "undefined"),
            ("return Response.error()", "function/invalid-response", "error"),
            ("await new Promise(() => {})", "function/never-answered", "never"),
        ] {
            let fault = fault(&worker, &handler(body)).await;
            assert_eq!(fault.code(), code, "{body}: {fault}");
            assert!(fault.to_string().contains(part), "{body}: {fault}");
        }
        assert_eq!(text(&worker, "return new Response('alive')").await, "alive");
    });
}

#[test]
fn deep_recursion_is_an_ordinary_error() {
    with_worker(|worker| async move {
        let body = "const f = () => f() + 1; try { f() } catch (e) { return new Response(e.name) }";
        assert_eq!(text(&worker, body).await, "RangeError");
    });
}

#[test]
fn state_of_a_module_lives_as_long_as_its_isolate() {
    with_worker(|worker| async move {
        let program =
            program_of(&[("index.js", "let n = 0; export default { fetch: () => new Response(String(++n)) }")], &[]);
        for expected in ["1", "2", "3"] {
            assert_eq!(ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap(), expected);
        }
        worker.retain(|_| false);
        assert_eq!(ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap(), "1");
    });
}

#[test]
fn requests_in_one_isolate_interleave() {
    with_worker(|worker| async move {
        let program = handler(
            "const ms = Number(new URL(request.url).pathname.slice(1)); await new Promise(r => setTimeout(r, ms)); return new Response(String(ms))",
        );
        let asked = [40, 5, 20].map(|ms| ask(&worker, &program, request("GET", &format!("/{ms}"), "")));
        let bodies: Vec<_> =
            futures::future::join_all(asked).await.into_iter().map(|a| a.unwrap().body.unwrap()).collect();
        assert_eq!(bodies, ["40", "5", "20"]);
    });
}

#[test]
fn unhandled_rejections_and_throws_in_timers_are_logged_and_survived() {
    with_worker(|worker| async move {
        let program = handler(
            "Promise.reject(new Error('loose')); setTimeout(() => { throw new Error('timer') }, 1); await new Promise(r => setTimeout(r, 20)); return new Response('ok')",
        );
        let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        assert_eq!(answer.body.unwrap(), "ok");
        assert!(
            answer.log.iter().any(|l| l.contains("loose")) && answer.log.iter().any(|l| l.contains("timer")),
            "{:?}",
            answer.log
        );
    });
}

#[test]
fn the_isolates_idle_longest_make_room() {
    with_worker(|worker| async move {
        for i in 0..25 {
            assert_eq!(text(&worker, &format!("return new Response('{i}')")).await, i.to_string());
        }
        assert!(worker.counts().residents <= 11, "{:?}", worker.counts());
    });
}

#[test]
fn a_program_is_checked_without_a_worker() {
    let (done, finished) = mpsc::channel();
    ROOT.send(Box::new(move |platform| {
        let owned = |program: Arc<Program>| Arc::try_unwrap(program).unwrap();
        let good = check(platform, owned(handler("return new Response('')")));
        let bad = check(platform, owned(program_of(&[("i.js", "throw new Error('no')")], &[])));
        done.send((good, bad)).unwrap();
    }))
    .unwrap();
    let (good, bad) = finished.recv().unwrap();
    assert_eq!(good, Ok(()));
    assert!(bad.unwrap_err().to_string().contains("no"));
}

#[test]
fn processor_time_is_charged_to_the_request_that_used_it() {
    with_worker(|worker| async move {
        let program = handler_with(
            "if (request.url.endsWith('/wait')) { await new Promise(r => setTimeout(r, 400)); return new Response('waited') }
             let sum = 0; for (let i = 0; i < 2e6; i++) sum += i % 7; return new Response(sum > 0 ? 'worked' : '')",
            &[("cpu_ms", 50)],
        );
        let waiting = ask(&worker, &program, request("GET", "/wait", ""));
        let working = async {
            for _ in 0..40 {
                assert_eq!(ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap(), "worked");
            }
        };
        let (waited, ()) = futures::join!(waiting, working);
        assert_eq!(waited.unwrap().body.unwrap(), "waited");
    });
}

#[test]
fn a_request_that_takes_too_long_fails_alone() {
    with_worker(|worker| async move {
        let program = handler_with(
            "if (request.url.endsWith('/stuck')) await fetch('http://o/slow'); await new Promise(r => setTimeout(r, 150)); return new Response('fine')",
            &[("wall_ms", 100)],
        );
        let quick = handler_with(
            "if (request.url.endsWith('/stuck')) await fetch('http://o/slow'); await new Promise(r => setTimeout(r, 60)); return new Response('fine')",
            &[("wall_ms", 100)],
        );
        assert_eq!(fault(&worker, &program).await.code(), "limit/wall");
        let stuck = ask(&worker, &quick, request("GET", "/stuck", ""));
        let fine = async {
            tokio::time::sleep(std::time::Duration::from_millis(70)).await;
            ask(&worker, &quick, request("GET", "/", "")).await
        };
        let (stuck, fine) = futures::join!(stuck, fine);
        assert_eq!(stuck.unwrap_err().fault.code(), "limit/wall");
        assert_eq!(fine.unwrap().body.unwrap(), "fine");
    });
}

#[test]
fn a_kill_between_requests_does_not_meet_the_next_one() {
    with_worker(|worker| async move {
        let program = handler(
            "if (request.url.endsWith('/bad')) ctx.waitUntil((async () => { await new Promise(r => setTimeout(r, 5)); for (;;); })()); return new Response('ok')",
        );
        assert_eq!(ask(&worker, &program, request("GET", "/bad", "")).await.unwrap().body.unwrap(), "ok");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap(), "ok");
    });
}

#[test]
fn a_stream_that_was_cut_off_does_not_look_whole() {
    with_worker(|worker| async move {
        for pull in ["if (n++ == 3) for (;;);", "if (n++ == 3) await new Promise(() => {});"] {
            let program = handler(&format!(
                "let n = 0; return new Response(new ReadableStream({{ async pull(c) {{ {pull} c.enqueue(new Uint8Array(10)) }} }}))"
            ));
            let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
            assert!(answer.body.is_err(), "{pull}: {:?}", answer.body);
        }
    });
}

#[test]
fn timers_end_with_their_request() {
    with_worker(|worker| async move {
        let program = program_of(
            &[(
                "index.js",
                "let n = 0; export default { async fetch(request) {
                if (request.url.endsWith('/start')) setInterval(() => n++, 1);
                else await new Promise(r => setTimeout(r, 50));
                return new Response(String(n)) } }",
            )],
            &[],
        );
        assert_eq!(ask(&worker, &program, request("GET", "/start", "")).await.unwrap().body.unwrap(), "0");
        assert_eq!(ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap(), "0");
    });
}

#[test]
fn an_isolate_that_another_thread_has_made_bears_what_one_of_its_own_does() {
    with_worker(|worker| async move {
        let hard = "const deep = () => deep() + 1;
            let names = [];
            const caught = async (body) => { try { await body(); names.push('none'); } catch (e) { names.push(e.name); } };
            await caught(deep);
            await caught(() => deep.call(null));
            const trap = Uint8Array.from(atob('AGFzbQEAAAABBAFgAAADAgEABwUBAWYAAAoFAQMAAAs='), (c) => c.charCodeAt(0));
            await caught(() => new WebAssembly.Instance(new WebAssembly.Module(trap)).exports.f());
            for (let i = 0; i < 2e5; i++) new URL('http://a/' + i);
            for (let i = 0; i < 200; i++) new Uint8Array(1 << 20).fill(i);
            let kept = []; for (let i = 0; i < 3e5; i++) kept.push({ i }); kept = null;
            const key = await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
            names.push((await crypto.subtle.sign('HMAC', key, new Uint8Array(3))).byteLength);
            await new Promise((done) => setTimeout(done, 5));
            names.push(await new Response(new Blob(['a', 'b']).stream().pipeThrough(new TextDecoderStream())).text().catch((e) => e.name));
            return new Response(names.join())";
        let mut answers = std::collections::BTreeSet::new();
        for n in 0..20 {
            let source = format!("export default {{ async fetch(request) {{ const n = {n}; {hard} }} }}");
            let program = program_of(&[("index.js", &source)], &[("cpu_ms", 20_000)]);
            answers.insert(ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap());
            // It is ended as any other is, too.
            let endless = handler(&format!("const n = {n}; for (;;);"));
            assert_eq!(fault(&worker, &endless).await.code(), "limit/cpu");
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
        let answer = answers.first().unwrap();
        assert!(answer.starts_with("RangeError,RangeError,RuntimeError,32,"), "{answer}");
    });
}

#[test]
fn a_start_in_a_task_that_has_done_much_is_a_start() {
    with_worker(|worker| async move {
        let semaphore = tokio::sync::Semaphore::new(1);
        // Tokio lets a task do 128 things at a time, of which a start takes some.
        for left in 0..12 {
            tokio::task::yield_now().await;
            for _ in left..128 {
                drop(semaphore.acquire().await.unwrap());
            }
            assert_eq!(text(&worker, &format!("return new Response('{left}')")).await, left.to_string());
        }
    });
}

/// Each op of a request looks whether it is among those that the stretch was for: they piled up, request by request, where
/// everything a request waits for is there at once.
#[test]
fn whom_a_stretch_served_is_forgotten_after_it() {
    with_worker(|worker| async move {
        let program = handler("return fetch('http://o/at-once')");
        for _ in 0..50 {
            ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        }
        assert!(worker.take_touched().is_empty());
    });
}
