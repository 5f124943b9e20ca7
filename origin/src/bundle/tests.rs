//! What nearly is a bundle never gets past the decoder as anything but what it says.

use proptest::prelude::*;

use super::*;

#[path = "../../../tests/src/near.rs"]
#[expect(dead_code, reason = "of what it offers, only bytes are needed here")]
mod near;

const SEEDS: [&str; 3] = [
    r#"{"format":1,"name":"hello","main":"index.js","modules":{"index.js":{"source":"export default {}"}},"config":{}}"#,
    r#"{"format":1,"name":"a-1","main":"src/a.ts","modules":{"src/a.ts":{"source":"x","source_map":"{\"version\":3}"},"b.json":{"source":"{}"}},"config":{"compatibility_date":"2025-01-01","vars":{"A":"b","N":0.1,"O":{"x":[1,null,true]}},"routes":["*/a/*","*.example.com/b","[::1]/c"],"limits":{"cpu_ms":10},"ratelimits":[{"name":"R","namespace_id":"n","limit":5,"period_seconds":60}],"jwt":[{"name":"J","issuers":["i"],"audiences":["a"],"keys":[{"kid":"k","algorithm":"HS256","material":{"secret":"s"}}],"leeway_seconds":5}],"cohorts":[{"name":"C","experiment":"e","cohorts":[{"name":"a","weight":1}],"cookie":"c"}],"on_failure":"origin"}}"#,
    r#"{"format":1,"name":"s","main":null,"modules":{},"config":{},"assets":{"/a.png":{"digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"content_type":"image/png","cache_control":"no-store"}}}"#,
];

proptest! {
    #![proptest_config(near::cases(400))]

    /// It never panics, an error says what is wrong, and what is read is one thing only: written and read again, it is
    /// the same.
    #[test]
    fn what_is_nearly_a_bundle_is_read_as_what_it_says_or_not_at_all(bytes in near::bytes(SEEDS.map(|s| s.as_bytes().to_vec()).to_vec())) {
        match Bundle::decode(&bytes, &Digest::of(&bytes)) {
            Ok(bundle) => {
                let (canonical, version) = bundle.encode();
                let again = Bundle::decode(&canonical, &version);
                prop_assert_eq!(again.as_ref(), Ok(&bundle));
                prop_assert_eq!(bundle.encode().0, canonical);
                prop_assert_eq!(bundle.format, FORMAT);
                prop_assert!(bundle.main.is_none_or(|main| bundle.modules.contains_key(&main)));
            }
            Err(error) => prop_assert!(error.to_string().len() > 20, "{}", error),
        }
    }

    /// One altered byte is found, whatever it changes.
    #[test]
    fn altered_bytes_are_never_the_version_they_claim(at in 0..1000_usize, with in 1..=255_u8) {
        for seed in SEEDS {
            let version = Digest::of(seed.as_bytes());
            let mut bytes = seed.as_bytes().to_vec();
            let place = at * bytes.len() / 1000;
            bytes[place] ^= with;
            let decoded = Bundle::decode(&bytes, &version);
            prop_assert!(matches!(decoded, Err(BundleError::Corrupt { .. })), "{decoded:?}");
        }
    }
}

#[test]
fn right_bundles_are_read_and_known_bad_ones_are_not() {
    for seed in SEEDS {
        let decoded = Bundle::decode(seed.as_bytes(), &Digest::of(seed.as_bytes()));
        assert!(decoded.is_ok(), "{decoded:?}");
    }
    for (bad, words) in [
        (r#"{"format":2,"name":"a","main":null,"modules":{},"config":{}}"#, "format 2"),
        (r#"{"format":1,"name":"a","main":"x.js","modules":{},"config":{}}"#, "not among the modules"),
        (r#"{"format":1,"name":"A","main":null,"modules":{},"config":{}}"#, "not a function name"),
        (r#"{"format":1,"name":"a","main":null,"modules":{},"config":{},"more":1}"#, "unknown field"),
        ("[", "EOF"),
    ] {
        let error = Bundle::decode(bad.as_bytes(), &Digest::of(bad.as_bytes())).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
