//! Code caches: made after calls, sealed, and used only when they are what was sealed.

use std::sync::atomic::AtomicBool;

use super::*;

/// A module with a function that only a call compiles.
fn module(text: &str) -> String {
    let body: String =
        (0..200).map(|n| format!("if (request.url.length === 1000{n}) return new Response('{n}');\n")).collect();
    format!(
        "function answer(request) {{ {body} return new Response('{text}'); }}\nexport default {{ fetch: (request) => answer(request) }};"
    )
}

fn program(text: &str) -> Arc<Program> {
    program_of(&[("index.js", &module(text)), ("unused.js", "export const x = 1;")], &[])
}

/// A program that comes with a code cache.
struct Cached(Arc<Program>, CodeCache);

impl Source for Cached {
    fn version(&self) -> &str {
        &self.0.version
    }

    fn load(&self) -> Result<(Arc<Program>, Found), Fault> {
        Ok((Arc::clone(&self.0), Some(Ok(self.1.clone()))))
    }
}

async fn answered(worker: &Worker, source: &impl Source) -> (String, Start) {
    let asked = request("GET", "/", "");
    let invoked = worker.invoke(source, asked, Rc::new(Echo::default())).await;
    let body = invoked.result.unwrap().into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), invoked.timing.start.expect("a start"))
}

#[test]
fn a_start_takes_the_code_cache_which_holds_what_calls_have_compiled() {
    with_worker(|worker| async move {
        let program = program("cached");
        let never_called = worker.compile(&program, &[], &AtomicBool::default()).await.unwrap();
        let called = worker.compile(&program, &["/".to_owned()], &AtomicBool::default()).await.unwrap();
        assert!(called.len() > never_called.len() + 5_000, "{} and {} bytes", called.len(), never_called.len());
        assert_eq!(worker.counts().residents, 0, "the isolates it was made in are gone");

        let (body, start) = answered(&worker, &Cached(program, called)).await;
        assert_eq!((body.as_str(), start.code_cache), ("cached", CacheUse::Used));
    });
}

#[test]
fn without_a_code_cache_a_start_says_so() {
    with_worker(|worker| async move {
        let (body, start) = answered(&worker, &program("plain")).await;
        assert_eq!((body.as_str(), start.code_cache), ("plain", CacheUse::Absent));
    });
}

#[test]
fn a_code_cache_that_v8_refuses_is_told_and_compiled_instead() {
    with_worker(|worker| async move {
        let other =
            worker.compile(&program("of another length"), &["/".to_owned()], &AtomicBool::default()).await.unwrap();
        let (body, start) = answered(&worker, &Cached(program("short"), other)).await;
        assert_eq!((body.as_str(), start.code_cache), ("short", CacheUse::Rejected));
    });
}

#[test]
fn only_what_was_sealed_for_this_version_with_this_key_opens() {
    with_worker(|worker| async move {
        let cache = worker.compile(&program("sealed"), &["/".to_owned()], &AtomicBool::default()).await.unwrap();
        let (key, other) = (SealKey::new(&[1; SealKey::BYTES]), SealKey::new(&[2; SealKey::BYTES]));
        let sealed = cache.seal(&key, "v1");
        assert_eq!(CodeCache::open(&sealed, &key, "v1").as_ref(), Ok(&cache));
        assert_eq!(CodeCache::open(&sealed, &other, "v1"), Err(Unsealed::Tampered));
        assert_eq!(CodeCache::open(&sealed, &key, "v2"), Err(Unsealed::Tampered));
        for at in (0..sealed.len()).step_by(97).chain([0, sealed.len() - 1]) {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(CodeCache::open(&altered, &key, "v1"), Err(Unsealed::Tampered), "byte {at}");
            assert_eq!(CodeCache::open(&sealed[..at], &key, "v1"), Err(Unsealed::Tampered), "cut at {at}");
        }
    });
}

/// What V8 ends a process for.
const KILLER: &str = "'A'.repeat(2e8).match(/A/g)";

#[test]
fn a_program_that_costs_the_thread_that_tries_it_costs_no_other() {
    let (done, finished) = mpsc::channel();
    ROOT.send(Box::new(move |platform| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let mut trial = Trial::new(platform, Watchdog::start().unwrap());
            let slow = [("startup_ms", 5_000), ("cpu_ms", 5_000)];
            let at_the_top =
                program_of(&[("index.js", &format!("{KILLER}; export default {{ fetch() {{}} }}"))], &slow);
            let at_the_top = trial.compile(&at_the_top, &[]).await;
            let in_a_call = trial.compile(&handler_with(KILLER, &slow), &["/"]).await;
            let sound = trial.compile(&handler("return new Response('')"), &["/"]).await;
            (at_the_top, in_a_call, sound)
        });
        done.send(outcome).unwrap();
    }))
    .unwrap();
    let (at_the_top, in_a_call, sound) = finished.recv().unwrap();
    assert_eq!(at_the_top.unwrap_err().code(), "function/boot");
    assert_eq!(in_a_call.unwrap(), None);
    assert!(sound.unwrap().is_some());
}
