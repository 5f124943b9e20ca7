//! What a function logs, and how its failures read.

use super::*;

async fn log(worker: &Worker, body: &str) -> Vec<String> {
    let program = handler(&format!("{body}; return new Response('')"));
    let answer = ask(worker, &program, request("GET", "/", "")).await;
    answer.unwrap_or_else(|failure| panic!("{body}: {failure:?}")).log
}

#[test]
fn the_console_shows_what_it_is_given() {
    with_worker(|worker| async move {
        for (body, expected) in [
            ("console.log('a %s b', 1, { x: [1] }, null)", &["2 a 1 b { x: [ 1 ] } null"][..]),
            ("console.debug(1); console.info(2); console.warn(3); console.error(4)", &["1 1", "2 2", "3 3", "4 4"]),
            ("console.log(new Headers({ b: '2', A: '1' }))", &["2 Headers { a: \"1\", b: \"2\" }"]),
            (
                "const f = new FormData(); f.set('a', 'b'); console.log(f, new Blob(['xyz'], { type: 'a/b' }))",
                &["2 FormData [ [ \"a\", \"b\" ] ] Blob { size: 3, type: \"a/b\" }"],
            ),
            (
                "console.group('outer'); console.log('in\\nside'); console.group(); console.log('deeper'); console.groupEnd(); console.groupEnd(); console.groupEnd(); console.log('out')",
                &["2 outer", "2   in\n  side", "2     deeper", "2 out"],
            ),
            (
                "console.count(); console.count(); console.count('x'); console.countReset(); console.count(); console.countReset('none')",
                &["2 default: 1", "2 default: 2", "2 x: 1", "2 default: 1", "3 Count for \"none\" does not exist"],
            ),
            (
                "console.assert(true, 'no'); console.assert(false); console.assert(0, 'why', 1)",
                &["4 Assertion failed", "4 Assertion failed: why 1"],
            ),
            (
                "console.dir({ a: 1 }, { depth: 0 }); console.table([{ a: 1, b: 'x' }, { a: 22 }]); console.table('no table')",
                &[
                    "2 { a: 1 }",
                    "2 +---------+----+-----+\n| (index) | a  | b   |\n+---------+----+-----+\n| 0       | 1  | \"x\" |\n| 1       | 22 |     |\n+---------+----+-----+",
                    "2 no table",
                ],
            ),
            (
                "console.table([1, 'b']); console.table([{ a: 1, b: 2 }], ['b'])",
                &[
                    "2 +---------+--------+\n| (index) | Values |\n+---------+--------+\n| 0       | 1      |\n| 1       | \"b\"    |\n+---------+--------+",
                    "2 +---------+---+\n| (index) | b |\n+---------+---+\n| 0       | 2 |\n+---------+---+",
                ],
            ),
            (
                "reportError(new RangeError('told'))",
                &["4 Uncaught: RangeError: told\n    at Object.fetch (index.js:1:63)"],
            ),
        ] {
            assert_eq!(log(&worker, body).await, expected, "{body}");
        }
    });
}

#[test]
fn requests_and_responses_are_shown_with_their_parts() {
    with_worker(|worker| async move {
        let lines = log(&worker, "console.log(request); console.log(new Response('x', { status: 201 })); console.log(await fetch('http://o/y'))").await;
        assert!(lines[0].contains("method: \"GET\"") && lines[0].contains("\"x-test\": \"yes\""), "{lines:?}");
        assert!(lines[1].contains("Response {") && lines[1].contains("status: 201"), "{lines:?}");
        assert!(lines[2].contains("url: \"http://o/y\"") && lines[2].contains("statusText: \"OK\""), "{lines:?}");
    });
}

#[test]
fn timers_and_traces_of_the_console_tell_time_and_place() {
    with_worker(|worker| async move {
        let lines = log(&worker, "console.time(); await scheduler.wait(20); console.timeLog(undefined, 'so far'); console.timeEnd(); console.timeEnd(); console.time('a'); console.time('a')").await;
        let millis = |line: &str| line.split(' ').nth(2).unwrap().trim_end_matches("ms").parse::<u64>().unwrap();
        assert!(lines[0].ends_with("ms so far") && millis(&lines[0]) >= 19, "{lines:?}");
        assert!(millis(&lines[1]) >= 19, "{lines:?}");
        assert_eq!(lines[2..], ["3 Timer \"default\" does not exist", "3 Timer \"a\" exists already"]);
        let lines = log(&worker, "(function inner() { console.trace('here', 1) })()").await;
        assert!(
            lines[0].starts_with("2 Trace: here 1\n    at inner (index.js:1:")
                && lines[0].contains("at Object.fetch (index.js"),
            "{lines:?}"
        );
        // Labels are kept for the isolate's life, so there is an end to them.
        let lines = log(
            &worker,
            "for (let i = 0; i < 5000; i++) console.time('t' + i); console.timeEnd('t4000'); console.timeEnd('t10')",
        )
        .await;
        assert!(lines[0].contains("does not exist") && lines[1].contains("t10: "), "{lines:?}");
    });
}

#[test]
fn what_throws_when_it_is_shown_does_no_harm() {
    with_worker(|worker| async move {
        let hostile = "const hostile = { get stack() { throw new Error('no') }, [Symbol.for('Deno.customInspect')]() { throw new Error('no') }, [Symbol.for('Deno.privateCustomInspect')]() { throw new Error('no') } };";
        let lines = log(&worker, &format!("{hostile} console.log(hostile); console.table([{{ hostile }}]); Promise.reject(hostile); setTimeout(() => {{ throw hostile }}); await scheduler.wait(5); ctx.waitUntil(Promise.reject(hostile)); await scheduler.wait(5)")).await;
        assert!(lines.iter().all(|line| line.contains("cannot be shown")) && lines.len() == 5, "{lines:?}");
        for (body, code) in [
            (format!("{hostile} throw hostile"), "function/threw"),
            (format!("{hostile} return hostile"), "function/invalid-response"),
            (
                "const e = new Error('x'); Object.defineProperty(e, 'message', { get() { throw 1 } }); throw e"
                    .to_owned(),
                "function/threw",
            ),
            ("throw Proxy.revocable({}, {}).proxy".to_owned(), "function/threw"),
            ("const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); throw proxy".to_owned(), "function/threw"),
            ("throw undefined".to_owned(), "function/threw"),
            ("throw null".to_owned(), "function/threw"),
        ] {
            assert_eq!(fault(&worker, &handler(&body)).await.code(), code, "{body}");
        }
    });
}

#[test]
fn a_failure_reads_with_its_cause_and_name() {
    with_worker(|worker| async move {
        for (body, expected) in [
            (
                "throw new Error('outer', { cause: new RangeError('inner') })",
                &["Error: outer\n    at ", "Caused by: RangeError: inner\n    at "][..],
            ),
            ("atob('a')", &["InvalidCharacterError: Failed to decode base64"]),
            ("throw new DOMException('over', 'TimeoutError')", &["TimeoutError: over"]),
            ("throw { a: 1 }", &["Uncaught { a: 1 }"]),
        ] {
            let message = fault(&worker, &handler(body)).await.to_string();
            for part in expected {
                assert!(message.contains(part), "{body}: {message}");
            }
            assert!(!message.contains("ext:"), "{body}: {message}");
        }
    });
}

#[test]
fn what_no_request_is_known_to_have_logged_is_in_the_log_of_none() {
    with_worker(|worker| async move {
        let program = program_of(
            &[(
                "index.js",
                "console.warn('at the start');
                 export default { async fetch(request) {
                   if (request.url.endsWith('/first')) {
                     new Promise((resolve) => globalThis.go = resolve).then(() => console.log('of the first'));
                     return new Response('');
                   }
                   globalThis.go();
                   await scheduler.wait(1);
                   console.log('of the second');
                   return new Response('');
                 } }",
            )],
            &[],
        );
        let first = ask(&worker, &program, request("GET", "/first", "")).await.unwrap();
        assert_eq!(first.log, ["own 3 at the start"]);
        let second = ask(&worker, &program, request("GET", "/second", "")).await.unwrap();
        assert_eq!(second.log, ["2 of the second", "own 2 of the first"]);
    });
}
