//! How many isolates a worker holds, and which go.

use super::*;

fn numbered(n: usize) -> Arc<Program> {
    program_of(
        &[("index.js", &format!("let asked = 0; export default {{ fetch: () => new Response(`{n} ${{++asked}}`) }}"))],
        &[],
    )
}

async fn asked(worker: &Worker, program: &Arc<Program>) -> String {
    ask(worker, program, request("GET", "/", "")).await.unwrap().body.unwrap()
}

#[test]
fn isolates_over_the_memory_budget_go_least_recently_used_first() {
    with_worker_of(Config { ready: 0, memory: 24 << 20, ..Config::default() }, |worker| async move {
        let favourite = numbered(0);
        for n in 1..40 {
            assert_eq!(asked(&worker, &favourite).await, format!("0 {n}"), "it was used all the time");
            assert_eq!(asked(&worker, &numbered(n)).await, format!("{n} 1"));
        }
        let counts = worker.counts();
        assert!(counts.memory <= 24 << 20, "{counts:?}");
        assert!(counts.evicted > 0 && counts.residents + counts.evicted as usize == 40, "{counts:?}");
        assert_eq!(asked(&worker, &numbered(39)).await, "39 2", "the one used last is still there");
        assert_eq!(asked(&worker, &numbered(1)).await, "1 1", "one that went starts again");
    });
}

#[test]
fn a_provisioned_program_and_one_in_use_are_not_evicted() {
    with_worker_of(Config { ready: 0, residents: 4, ..Config::default() }, |worker| async move {
        let pinned =
            program_of(&[("index.js", "let n = 0; export default { fetch: () => new Response(`${++n}`) }")], &[]);
        let pinned = Arc::new(Program { provisioned: true, ..Arc::into_inner(pinned).unwrap() });
        let busy = handler("await scheduler.wait(60_000); return new Response()");
        let waiting = worker.clone();
        let waited = spawn_local({
            let busy = Arc::clone(&busy);
            async move {
                let answered = ask(&waiting, &busy, request("GET", "/", "")).await;
                panic!("it waits for a minute: {answered:?}");
            }
        });
        while worker.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked(&worker, &pinned).await, "1");
        for n in 0..12 {
            asked(&worker, &numbered(n)).await;
        }
        assert!(worker.counts().residents <= 4, "{:?}", worker.counts());
        assert_eq!(asked(&worker, &pinned).await, "2");
        assert_eq!(worker.in_flight(), 1);
        waited.abort();
    });
}

#[test]
fn a_trimmed_isolate_answers_as_before() {
    with_worker(|worker| async move {
        let program = program_of(
            &[(
                "index.js",
                "const kept = { n: 0 }; export default { fetch: () => { new Array(100_000).fill('x'); return new Response(`${++kept.n}`) } }",
            )],
            &[],
        );
        assert_eq!(asked(&worker, &program).await, "1");
        let before = worker.counts().memory;
        worker.trim_idle(std::time::Duration::ZERO).await;
        assert!(worker.counts().memory < before + (64 << 10), "{before} {:?}", worker.counts());
        assert_eq!(asked(&worker, &program).await, "2");
    });
}

#[test]
fn a_function_with_a_larger_heap_may_fill_it_in_an_isolate_from_the_pool() {
    with_worker(|worker| async move {
        // Fills 200 MiB of the heap: more than an isolate of the pool has at first.
        let hoard = "const kept = []; while (kept.length < 25) kept.push(new Array(1 << 20).fill(1.5)); return new Response(`${kept.length}`)";
        let program = handler_with(hoard, &[("heap_bytes", 400 << 20), ("cpu_ms", 10_000)]);
        assert_eq!(asked(&worker, &program).await, "25");
        assert_eq!(fault(&worker, &handler_with(hoard, &[("cpu_ms", 10_000)])).await.code(), "limit/heap");
    });
}
