//! What an isolate reads of what tenants write, apart from their code: flat header lists, source maps, module paths.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::near;
use super::*;
use crate::extension::unflatten;

const LISTS: [&str; 5] = [
    "",
    "content-type\ntext/plain;charset=UTF-8",
    "set-cookie\na=1; Path=/\nset-cookie\nb=2\nx-a\n\nX-Upper\nv",
    "a\n\u{e9}\u{ff}\nb\n\u{100}",
    "content-length\n5\ntransfer-encoding\nchunked",
];

const MAPS: [&str; 3] = [
    r#"{"version":3,"sources":["index.ts"],"sourcesContent":["throw new Error('x')\n"],"names":[],"mappings":"AAAA"}"#,
    r#"{"version":3,"sections":[{"offset":{"line":0,"column":0},"map":{"version":3,"sources":["a"],"names":["n"],"mappings":"AAAAA,CAAC;AACA"}}]}"#,
    r#"{"version":3,"file":"x","sourceRoot":"../..","sources":["\u0000",null],"names":[],"mappings":";;;AAAA,gggggggggggggE"}"#,
];

proptest! {
    #![proptest_config(near::cases(500))]

    /// Never panics. What is taken is what HTTP can carry, pair for pair; an error says which name it was.
    #[test]
    fn a_flat_list_becomes_fields_or_an_error_that_names_one(flat in near::bytes(LISTS.map(|list| list.as_bytes().to_vec()).to_vec())) {
        let mut headers = http::HeaderMap::new();
        match unflatten(flat.clone().into(), &mut headers) {
            Ok(()) => {
                let pairs = flat.split(|byte| *byte == b'\n').count() / 2;
                prop_assert_eq!(headers.len(), pairs);
                let clean = |value: &http::HeaderValue| !value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
                prop_assert!(headers.values().all(clean));
            }
            Err(error) => prop_assert!(error.contains("header"), "{error}"),
        }
    }
}

#[test]
fn a_known_bad_list_is_refused() {
    for bad in ["a b\n1", "\n1", "a\n1\r\nb: 2", "a\n\0"] {
        assert!(unflatten(bad.into(), &mut http::HeaderMap::new()).is_err(), "{bad:?}");
    }
}

/// Whatever a source map holds, the error that it is asked about arrives, and the next request is answered.
#[test]
fn no_source_map_harms_the_process() {
    let cases = near::cases(60).cases;
    let mut runner = TestRunner::deterministic();
    let maps: Vec<String> = (0..cases).map(|_| near::text(&MAPS).new_tree(&mut runner).unwrap().current()).collect();
    with_worker(|worker| async move {
        for (number, map) in maps.into_iter().enumerate() {
            let source = "export default { fetch() { throw new Error('mine') } }";
            let module = Code { source: Arc::from(source), source_map: Some(Arc::from(map.as_str())) };
            let program = Arc::new(Program {
                version: format!("map {number}"),
                main: "index.ts".to_owned(),
                modules: [("index.ts".to_owned(), module)].into(),
                bindings: "[]".to_owned(),
                provisioned: false,
                limits: crate::limits::Limits::with([("cpu_ms", 10_000), ("startup_ms", 5_000)]).unwrap(),
            });
            let fault = fault(&worker, &program).await;
            assert!(fault.code() == "function/threw" && fault.to_string().contains("mine"), "{map}: {fault}");
            worker.retain(|_| false);
        }
    });
}
