//! Makes the startup snapshot: every web API and the runtime's own JavaScript, evaluated once, at build time.

#![expect(dead_code, unreachable_pub, reason = "the ops are compiled here only for their addresses")]

use std::path::PathBuf;

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
#[path = "src/ops_body.rs"]
mod ops_body;
#[path = "src/ops_coding.rs"]
mod ops_coding;
#[path = "src/ops_web.rs"]
mod ops_web;
#[path = "src/table.rs"]
mod table;

fn main() {
    for watched in [
        "src/allowed.rs",
        "src/buffers.rs",
        "src/extension.rs",
        "src/invocation.rs",
        "src/limits.rs",
        "src/ops_body.rs",
        "src/ops_coding.rs",
        "src/ops_web.rs",
        "src/table.rs",
        "src/js",
    ] {
        println!("cargo:rerun-if-changed={watched}");
    }
    let made = deno_core::snapshot::create_snapshot(
        deno_core::snapshot::CreateSnapshotOptions {
            cargo_manifest_dir: env!("CARGO_MANIFEST_DIR"),
            startup_snapshot: None,
            skip_op_registration: false,
            extensions: extension::extensions(allowed::Stage::Snapshot),
            extension_transpiler: None,
            with_runtime_cb: Some(Box::new(|runtime| {
                runtime
                    .execute_script("skerry:start", "Deno.core.loadExtScript('ext:skerry/90_runtime.js')")
                    .unwrap_or_else(|error| panic!("the runtime's own JavaScript failed: {error}"));
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
