//! What a function can reach: every name, and every op. Both lists are checked in. Who changes one on purpose runs the
//! tests with `UPDATE_WALLS=1` and looks at the difference before committing it.

use std::path::Path;

use super::*;
use crate::allowed::REFUSED;
use crate::buffers::Buffers;
use crate::entered::Isolate;
use crate::program::Loader;

mod fuzz;
#[path = "../../../../tests/src/near.rs"]
mod near;
mod near_input;

/// The lines that one list has and the other has not, marked as `diff` does.
fn difference(checked_in: &str, found: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (checked_in.lines().collect(), found.lines().collect());
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(come).collect()
}

fn compare(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests").join(name);
    if std::env::var_os("UPDATE_WALLS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = difference(&checked_in, found);
    assert!(
        difference.is_empty(),
        "what a function can reach has changed. If it was meant to, run this test again with UPDATE_WALLS=1, which \
         rewrites src/tests/{name}, and commit that:\n{}",
        difference.join("\n")
    );
    assert!(checked_in.lines().is_sorted(), "{name} is sorted");
}

#[test]
fn every_name_a_function_can_reach_is_listed() {
    with_worker(|worker| async move {
        let program = program_of(&[("index.js", include_str!("surface.js"))], &[("cpu_ms", 10_000)]);
        let found = ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap();
        for known in ["Response function/", "Array.prototype.map function/1", "Headers.prototype.get function/1"] {
            assert!(found.lines().any(|line| line.starts_with(known)), "{known:?} is found");
        }
        for gone in ["Deno", "__bootstrap", "__skerry", "SharedArrayBuffer", "ShadowRealm"] {
            assert!(!found.lines().any(|line| line.split([' ', '.']).next() == Some(gone)), "{gone} is gone");
        }
        compare("globals.txt", &found);
    });
}

#[test]
fn a_name_or_an_op_added_unnoticed_is_noticed() {
    assert_eq!(difference("a get\nb object\n", "a get\nb object\nc function/1\n"), ["+ c function/1"]);
    assert_eq!(difference("a get\nb object\n", "a getset\nb object\n"), ["- a get", "+ a getset"]);
    let found = found_ops("globalThis.Deno.core.ops.op_new = () => {};");
    assert!(difference(include_str!("ops.txt"), &found).contains(&"+ op_new".to_owned()), "{found}");
}

#[test]
fn every_op_a_function_could_call_is_listed() {
    let found = found_ops("");
    // The lists that the runtime goes by have no name that is not there.
    let unknown: Vec<_> = crate::allowed::names().filter(|name| !found.lines().any(|line| line == *name)).collect();
    assert!(unknown.is_empty(), "allowed, but there is no such op: {unknown:?}");
    compare("ops.txt", &found);
}

/// Calls every op that JavaScript could ever hold, in an isolate whose platform objects are still there: those that do
/// not refuse are listed, and all methods of native classes.
fn found_ops(before: &str) -> String {
    let script = format!(
        r#"{before}
        globalThis.found = (async () => {{
            const found = [];
            for (const [name, op] of Object.entries(Deno.core.ops)) {{
                if (Object.hasOwn(op, "prototype") && Reflect.ownKeys(op.prototype).length > 1) {{
                    for (const key of Reflect.ownKeys(op.prototype)) found.push(`${{name}}.${{String(key)}}`);
                    for (const key of Reflect.ownKeys(op)) if (!["length", "name", "prototype"].includes(key)) found.push(`${{name}}.${{String(key)}} static`);
                    continue;
                }}
                // Without an argument it would end the process: see `FRAGILE` in walls/fuzz.rs.
                if (name === "op_url_get_serialization") {{ found.push(name); continue; }}
                try {{
                    await Promise.race([op(), null]);
                    found.push(name);
                }} catch (error) {{
                    if (error.message !== "{REFUSED}") found.push(name);
                }}
            }}
            globalThis.listed = found.sort().map((name) => name + "\n").join("");
        }})();"#
    );
    in_raw_isolate(move |isolate| {
        isolate.with(|runtime| {
            runtime.execute_script("list", script).unwrap();
            deno_core::scope!(scope, runtime);
            scope.perform_microtask_checkpoint();
            let key = deno_core::v8::String::new(scope, "listed").unwrap();
            let listed = scope.get_current_context().global(scope).get(scope, key.into()).unwrap();
            assert!(listed.is_string(), "the listing came to its end");
            listed.to_rust_string_lossy(scope)
        })
    })
}

/// Runs `test` with an isolate from which nothing has been removed.
pub(super) fn in_raw_isolate<R: Send + 'static>(test: impl FnOnce(&mut Isolate) -> R + Send + 'static) -> R {
    let (give, take) = mpsc::channel();
    with_worker(|_| async move { give.send(test(&mut raw_isolate())).unwrap() });
    take.recv().unwrap()
}

pub(super) fn raw_isolate() -> Isolate {
    let buffers = Arc::new(Buffers::default());
    buffers.limit.store(64 << 20, std::sync::atomic::Ordering::Relaxed);
    Isolate::new(Rc::new(Loader::default()), 128 << 20, buffers)
}
