//! The seed of V8's hashes is a secret of the build, until an installation has its own (`snapshot.rs`).

use deno_core::v8;

use super::*;
use crate::entered::Isolate;

const NAMES: [&str; 5] = ["length", "Response", "passThroughOnException", "a name of nobody's", "x-1"];

/// How [`NAMES`] hash in every snapshot that is made as `deno_core` makes it: with the seed that comes with V8.
const KNOWN_TO_ALL: [i32; 5] = [989_961_725, 1_022_400_946, 934_083_480, 445_650_059, 166_514_349];

fn hashes(isolate: &mut Isolate) -> [i32; 5] {
    isolate.with(|runtime| {
        deno_core::scope!(scope, runtime);
        NAMES.map(|name| v8::String::new(scope, name).unwrap().get_identity_hash().get())
    })
}

#[test]
fn names_do_not_hash_as_everybody_knows_they_do() {
    // Two at a time, since isolates share what hashes depend on.
    let (one, other) = walls::in_raw_isolate(|isolate| (hashes(isolate), hashes(&mut walls::raw_isolate())));
    assert_eq!(one, other, "all isolates hash alike");
    for (name, (hash, known)) in NAMES.iter().zip(one.iter().zip(KNOWN_TO_ALL)) {
        assert_ne!(*hash, known, "{name:?}");
    }
}
