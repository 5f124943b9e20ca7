//! Makes the startup snapshot: every web API and the runtime's own JavaScript, evaluated once, at build time.

#![expect(dead_code, unreachable_pub, unused_imports, reason = "the ops are compiled here only for their addresses")]

use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;

use deno_core::JsRuntime;
use md5::{Digest as _, Md5};

#[path = "src/allowed.rs"]
mod allowed;
#[path = "src/buffers.rs"]
mod buffers;
#[path = "src/extension.rs"]
mod extension;
#[path = "src/invocation.rs"]
mod invocation;
#[path = "src/limits.rs"]
mod limits;
#[path = "src/nowhere.rs"]
mod nowhere;
#[path = "src/ops_body.rs"]
mod ops_body;
#[path = "src/ops_cache.rs"]
mod ops_cache;
#[path = "src/ops_coding.rs"]
mod ops_coding;
#[path = "src/ops_web.rs"]
mod ops_web;
#[path = "src/table.rs"]
mod table;

use invocation::{Held, Invocation, Outcome};
use limits::Limits;
use nowhere::Nowhere;

/// Answers requests that nobody sent, so that what every request runs is in the snapshot compiled.
fn rehearse(runtime: &mut JsRuntime) {
    let state = runtime.op_state();
    let ids: Vec<u32> = (0..3)
        .map(|_| {
            let (head, ()) =
                http::Request::get("/path?q=1").header("x-a", "b").body(()).expect("a request").into_parts();
            let invocation = Invocation::new(head, 0, Rc::new(Nowhere), &Limits::default());
            let mut state = state.borrow_mut();
            state.borrow_mut::<Held>().invocations.insert(invocation).expect("the table is empty")
        })
        .collect();
    run(runtime, format!("__skerry.rehearse({ids:?})"));
    runtime.v8_isolate().perform_microtask_checkpoint();
    for id in ids {
        let mut state = state.borrow_mut();
        let held = state.borrow_mut::<Held>();
        let answered = held.invocations.get_mut(id).map(|invocation| invocation.answer.poll(None));
        assert!(
            matches!(answered, Some(Poll::Ready(Some(Outcome::Response { .. })))),
            "the runtime's own JavaScript does not answer"
        );
        held.end(id);
        held.news.clear();
    }
}

fn run(runtime: &mut JsRuntime, code: impl Into<String>) {
    let code = code.into();
    if let Err(error) = runtime.execute_script("skerry:snapshot", code.clone()) {
        panic!("{code}: {error}");
    }
}

fn main() {
    for watched in [
        "src/allowed.rs",
        "src/buffers.rs",
        "src/extension.rs",
        "src/invocation.rs",
        "src/limits.rs",
        "src/limits/profile.rs",
        "src/nowhere.rs",
        "src/ops_body.rs",
        "src/ops_cache.rs",
        "src/ops_coding.rs",
        "src/ops_web.rs",
        "src/table.rs",
        "src/js",
    ] {
        println!("cargo:rerun-if-changed={watched}");
    }
    deno_core::v8::V8::set_flags_from_string(&format!("--rehash-snapshot --hash-seed={}", hash_seed()));
    let made = deno_core::snapshot::create_snapshot(
        deno_core::snapshot::CreateSnapshotOptions {
            cargo_manifest_dir: env!("CARGO_MANIFEST_DIR"),
            startup_snapshot: None,
            skip_op_registration: false,
            extensions: extension::extensions(allowed::Stage::Snapshot),
            extension_transpiler: None,
            with_runtime_cb: Some(Box::new(|runtime| {
                run(runtime, "Deno.core.loadExtScript('ext:skerry/90_runtime.js')");
                rehearse(runtime);
            })),
        },
        None,
    )
    .unwrap_or_else(|error| panic!("no snapshot: {error}"));
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let id = Md5::digest(&made.output).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (name, bytes) in [("snapshot.bin", &*made.output), ("snapshot.id", id.as_bytes())] {
        let out = folder.join(name);
        std::fs::write(&out, bytes).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    }
}

/// What V8's hashes of names begin from in this build's snapshot: a secret of the build, or the number in
/// `SKERRY_HASH_SEED` for one that has to come out the same again.
///
/// Otherwise it would be the one of the snapshot that comes with V8 and that this one is made from. Who knows the seed can
/// send names that collide in any object that holds them, and then each look at it takes as long as it is large. An
/// installation makes a seed of its own from this one (`snapshot.rs`).
fn hash_seed() -> u64 {
    println!("cargo:rerun-if-env-changed=SKERRY_HASH_SEED");
    // V8 reads no number above 2⁶³ here, and takes 0 for none.
    let given = |text: String| match text.parse() {
        Ok(seed) if (1..=i64::MAX as u64).contains(&seed) => seed,
        _ => panic!("SKERRY_HASH_SEED is {text:?}: set it to a whole number from 1 to {}, or unset it", i64::MAX),
    };
    let random = || std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), "seed") >> 1;
    std::env::var("SKERRY_HASH_SEED").map_or_else(|_| random().max(1), given)
}
