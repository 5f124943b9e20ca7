//! Inputs that are nearly right, for the tests of whatever reads what a tenant or a client wrote: a right one with a few
//! edits, which gets further into a parser than noise does. Shared by the crates' own tests, which include this file.
//!
//! `FUZZ_CASES=100000 cargo test -p origin near` is a long run. What fails is shrunk, printed with its seed, and kept in
//! `proptest-regressions`, from where it is tried first the next time.

use proptest::collection::vec;
use proptest::prelude::*;

/// As many cases as `FUZZ_CASES` says, or `otherwise`.
pub(crate) fn cases(otherwise: u32) -> ProptestConfig {
    let wanted = std::env::var("FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(wanted.unwrap_or(otherwise))
}

/// One change of an input. Places and lengths are shares of what there is, in thousandths.
#[derive(Clone, Debug)]
enum Edit {
    Remove { at: usize, length: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Replace { at: usize, byte: u8 },
    Repeat { at: usize, length: usize, to: usize, times: usize },
}

/// Bytes that mean something to one format or another.
const TELLING: [&str; 28] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "\r\n",
    "\0",
    "/",
    "//",
    "/*",
    "%2e",
    "%",
    "..",
    "=",
    "\u{feff}",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.1",
    "null",
    "\\ud800",
    "\u{1f600}",
    "é",
    "\t",
];

fn edit() -> impl Strategy<Value = Edit> {
    let share = 0..1000_usize;
    let telling = prop::sample::select(TELLING.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    let bytes = prop_oneof![3 => telling, 1 => vec(any::<u8>(), 1..9)];
    prop_oneof![
        (share.clone(), 0..200_usize).prop_map(|(at, length)| Edit::Remove { at, length }),
        (share.clone(), bytes).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        (share.clone(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace { at, byte }),
        (share.clone(), 0..100_usize, share, 1..40_usize).prop_map(|(at, length, to, times)| Edit::Repeat {
            at,
            length,
            to,
            times
        }),
    ]
}

fn apply(input: &mut Vec<u8>, edit: Edit) {
    let place = |share: usize| share * input.len() / 1000;
    match edit {
        Edit::Remove { at, length } => drop(input.drain(place(at)..place((at + length).min(1000)))),
        Edit::Insert { at, bytes } => drop(input.splice(place(at)..place(at), bytes)),
        Edit::Replace { at, byte } => {
            let at = place(at);
            if let Some(old) = input.get_mut(at) {
                *old = byte;
            }
        }
        Edit::Repeat { at, length, to, times } => {
            let to = place(to);
            let piece = input[place(at)..place((at + length).min(1000))].repeat(times);
            drop(input.splice(to..to, piece));
        }
    }
}

/// One of `seeds` with up to six edits.
pub(crate) fn bytes(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(seeds), vec(edit(), 0..7)).prop_map(|(mut input, edits)| {
        edits.into_iter().for_each(|edit| apply(&mut input, edit));
        input
    })
}

/// The same as text: what is not UTF-8 is replaced.
pub(crate) fn text(seeds: &[&str]) -> impl Strategy<Value = String> + use<> {
    bytes(seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect())
        .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
