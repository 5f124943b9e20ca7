//! The startup snapshot of an installation: that of the build, with a hash seed of its own.
//!
//! Names that collide in V8's hashes make every object that holds them slow, and who knows the seed can make such names.
//! The seed lies in the snapshot, so all who run one build would share it. V8 can take another seed than the snapshot's,
//! but then hashes the whole snapshot anew for each isolate, which is half a millisecond of every start. So an
//! installation does that once, in a process of its own (a process of V8 has one set of flags and one read-only heap),
//! and starts from what comes out, which it keeps under its seal.

use deno_core::{JsRuntimeForSnapshot, RuntimeOptions, v8};

use crate::allowed::Stage;
use crate::blank::Blank;
use crate::code_cache::{SealKey, Unsealed, seal_bytes, unseal};
use crate::extension::extensions;
use crate::fault::Fault;
use crate::limits::Limits;
use crate::platform::Platform;
use crate::program::{Code, Program};
use crate::trial::check;

/// The byte of V8's blob that says whether its hashes may be made anew (`snapshot.cc`: the second of its numbers).
///
/// V8 writes 0 because of one kind of table that it cannot hash anew: the exports of modules. There are two modules in the
/// snapshot, `deno_core`'s own, whose names nobody imports any more once it is made. What else is in it are tables that V8
/// does hash anew, or whose hashes do not come from the seed (`HeapObject::CanBeRehashed`).
const REHASHABLE: usize = 4;

/// What the build made.
static BUILT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/snapshot.bin"));
/// Names it among all that were ever made.
const BUILT_ID: &str = include_str!(concat!(env!("OUT_DIR"), "/snapshot.id"));

/// A startup snapshot. One serves all isolates of a process: V8 shares one read-only heap among them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) bytes: &'static [u8],
    /// Code caches are for isolates of one snapshot.
    pub(crate) id: String,
}

impl Snapshot {
    /// The one of the build.
    pub fn built_in() -> Self {
        Self { bytes: BUILT, id: BUILT_ID.to_owned() }
    }

    /// Takes what [`reseed`] made, in any process. It stays in memory for as long as the process lives.
    pub fn new(made: Vec<u8>) -> Self {
        let id = hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &made).as_ref());
        Self { bytes: made.leak(), id }
    }

    /// The bytes that [`Snapshot::new`] took; `None` for the build's, which every process of this build has.
    pub fn made(&self) -> Option<&'static [u8]> {
        (self.id != BUILT_ID).then_some(self.bytes)
    }

    /// As bytes that only [`Snapshot::open`] with the same key takes back, in the same build.
    pub fn seal(&self, key: &SealKey) -> Vec<u8> {
        seal_bytes(key, &label(), self.bytes)
    }

    /// What [`Snapshot::seal`] sealed.
    ///
    /// # Errors
    /// [`Unsealed`]: the bytes are not what this build sealed.
    pub fn open(sealed: &[u8], key: &SealKey) -> Result<Self, Unsealed> {
        unseal(sealed, key, &label()).map(|made| Self::new(made.to_vec()))
    }
}

/// What a sealed snapshot is for.
fn label() -> String {
    format!("snapshot {} {BUILT_ID}", v8::VERSION_STRING)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The build's snapshot with this hash seed. For a process that does nothing else: the seed stays V8's, and V8 must not run
/// yet. `None` when `deno_core` wrote it otherwise than this knows.
pub fn reseed(seed: u64) -> Option<Vec<u8>> {
    // V8 reads no number above 2⁶³ here. 0 would mean a seed of V8's choice, which is the same everywhere while a snapshot is
    // made.
    v8::V8::set_flags_from_string(&format!("--rehash-snapshot --hash-seed={}", (seed >> 1).max(1)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    let _entered = runtime.enter();
    let mut built = BUILT.to_vec();
    *built.get_mut(REHASHABLE)? = 1;
    let isolate = JsRuntimeForSnapshot::new(RuntimeOptions {
        startup_snapshot: Some(built.leak()),
        skip_op_registration: true,
        extensions: extensions(Stage::Run),
        ..RuntimeOptions::default()
    });
    with_sources(&isolate.snapshot(), BUILT)
}

/// `deno_core` leaves the sources of its JavaScript out of a snapshot that is made from another one, and V8 wants them as
/// soon as a function is compiled that was not before: they are put back, together with their count.
///
/// A blob is what V8 made, `deno_core`'s own data, and the length of the former (`runtime/snapshot.rs` of the version that
/// `Cargo.toml` pins); the data ends with the names of the extensions, the count of the ops, and what is put back.
fn with_sources(made: &[u8], original: &[u8]) -> Option<Vec<u8>> {
    let (heap, data) = parts(made)?;
    let (head, _) = data.split_at(sources(data)?);
    let (_, original) = parts(original)?;
    let (original_head, sources) = original.split_at(sources(original)?);
    // The count of the ops.
    if head.last_chunk::<8>() != original_head.last_chunk::<8>() {
        return None;
    }
    Some([heap, head, sources, &(heap.len() as u64).to_le_bytes()].concat())
}

fn parts(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, length) = blob.split_last_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

/// Where the sources begin: behind the last extension's name, with its length before, and the count of the ops.
fn sources(data: &[u8]) -> Option<usize> {
    const LAST: &[u8] = b"\x06\0\0\0skerry";
    let name = data.windows(LAST.len()).position(|window| window == LAST)?;
    let end = name + LAST.len() + 8;
    (end <= data.len()).then_some(end)
}

/// Starts a function from a snapshot: whether it can be started from, and what a name hashes to then. For a process that
/// does nothing else, since a bad one ends it.
///
/// # Errors
/// [`Fault::Boot`], if it gets as far as that.
pub fn prove(snapshot: Snapshot) -> Result<u32, Fault> {
    let code = Code { source: PROOF.into(), source_map: None };
    let program = Program {
        version: "proof".to_owned(),
        main: "proof.js".to_owned(),
        modules: [("proof.js".to_owned(), code)].into(),
        bindings: "[]".to_owned(),
        limits: Limits::default(),
        provisioned: false,
    };
    check(Platform::start_from(snapshot), program)?;
    let failed = |error: std::io::Error| Fault::Boot(format!("no isolate could be made to try it: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let _entered = runtime.enter();
    let hash = Blank::new().isolate.with(|runtime| {
        deno_core::scope!(scope, runtime);
        v8::String::new(scope, "a name").map(|name| name.get_identity_hash().get().cast_unsigned())
    });
    Ok(hash.unwrap_or_default())
}

/// Asks for what is compiled when it is first used, of every part of the runtime's JavaScript.
const PROOF: &str = r#"
const part = (what, got, expected) => { if (got !== expected) throw new Error(`${what}: ${got}`); };
part("url", new URL("../c?d=é", "http://a.example/b/").searchParams.get("d"), "é");
part("pattern", new URLPattern({ pathname: "/:x" }).exec("http://a/b").pathname.groups.x, "b");
part("headers", new Headers([["B", "1"], ["a", "2"], ["b", "3"]]).get("b"), "1, 3");
const gzip = new Blob(["text"]).stream().pipeThrough(new CompressionStream("gzip"));
part("streams", await new Response(gzip.pipeThrough(new DecompressionStream("gzip"))).text(), "text");
const form = new FormData();
form.set("f", new File(["x"], "n"));
part("form", await (await new Response(form).formData()).get("f").text(), "x");
part("clone", structuredClone({ a: [new Date(5)] }).a[0].getTime(), 5);
part("base64", atob(btoa("x")), "x");
part("encoding", new TextDecoder("utf-16le").decode(new Uint8Array([65, 0])), "A");
part("digest", (await crypto.subtle.digest("SHA-256", new Uint8Array(1))).byteLength, 32);
const controller = new AbortController();
controller.abort();
part("abort", controller.signal.aborted, true);
console.log(new DOMException("m", "AbortError"));
export default { fetch: () => new Response("alive") };
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_snapshot_opens_with_its_key_alone_and_unaltered() {
        let key = SealKey::new(&[1; SealKey::BYTES]);
        let snapshot = Snapshot::new(b"any bytes".to_vec());
        let sealed = snapshot.seal(&key);
        let opened = Snapshot::open(&sealed, &key).unwrap();
        assert_eq!((opened.bytes, opened.id), (snapshot.bytes, snapshot.id));
        assert!(Snapshot::open(&sealed, &SealKey::new(&[2; SealKey::BYTES])).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(Snapshot::open(&altered, &key).is_err(), "byte {at}");
        }
        assert!(Snapshot::open(&[], &key).is_err());
    }

    #[test]
    fn the_sources_of_a_blob_are_found_and_what_is_no_blob_is_refused() {
        let (_, data) = parts(BUILT).unwrap();
        let at = sources(data).unwrap();
        assert!(data.len() - at > 100_000, "the sources are the larger part");
        assert_eq!(with_sources(BUILT, BUILT).as_deref(), Some(BUILT));
        for not_one in [&b""[..], b"1234567", &[0xff; 64], &BUILT[..BUILT.len() - 1]] {
            assert_eq!(with_sources(not_one, BUILT), None);
        }
    }
}
