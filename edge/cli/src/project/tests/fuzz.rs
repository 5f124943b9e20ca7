//! What nearly is a project file.

use origin::bundle::{Bundle, FORMAT};

use super::*;

#[path = "../../../../../tests/src/near.rs"]
mod near;

/// The examples that people begin with, and one that has every key.
const SEEDS: [&str; 7] = [
    include_str!("../../../../../functions/ab/wrangler.jsonc"),
    include_str!("../../../../../functions/auth/wrangler.jsonc"),
    include_str!("../../../../../functions/geo/wrangler.jsonc"),
    include_str!("../../../../../functions/hello/wrangler.jsonc"),
    include_str!("../../../../../functions/limited/wrangler.jsonc"),
    include_str!("../../../../../functions/site/wrangler.jsonc"),
    "name = \"hello\"\nmain = \"src/index.ts\"\ncompatibility_date = \"2025-01-01\"\nroutes = [\"*/a/*\", { pattern = \"b.example/*\" }]\n\
     [vars]\nA = 1.5\nB = [\"x\", { c = true }]\n[limits]\ncpu_ms = 10\n[[jwt]]\nbinding = \"J\"\nissuer = \"i\"\naudience = \"a\"\n",
];

proptest! {
    #![proptest_config(near::cases(250))]

    /// Never panics. Every error says what is wrong at a place that the file has. A file that is taken means one thing:
    /// its configuration goes through a bundle and comes out the same.
    #[test]
    fn what_is_nearly_a_project_file_is_taken_for_what_it_says_or_refused_at_a_place(text in near::text(&SEEDS)) {
        let dir = folder_with("unused", "");
        for file in FILE_NAMES {
            match schema::read(Folder::open(dir.path()).unwrap(), file, &text) {
                Ok(project) => {
                    let bundle = Bundle {
                        format: FORMAT,
                        name: project.name,
                        main: None,
                        modules: Default::default(),
                        config: project.config,
                        assets: Default::default(),
                    };
                    let (bytes, version) = bundle.encode();
                    prop_assert_eq!(Bundle::decode(&bytes, &version), Ok(bundle));
                }
                Err(errors) => {
                    prop_assert!(!errors.0.is_empty());
                    for error in &errors.0 {
                        prop_assert!(!error.message.is_empty() && error.file == file, "{error:?}");
                        if let Some(place) = &error.place {
                            prop_assert!((1..=text.matches('\n').count() + 1).contains(&place.line), "{place:?}");
                            prop_assert!(place.column >= 1 && place.marks.start < place.marks.end, "{place:?}");
                        }
                    }
                    let _ = errors.to_string();
                }
            }
        }
    }
}

#[test]
fn a_known_bad_file_is_refused_at_its_place() {
    let error = load("wrangler.jsonc", &SEEDS[3].replacen("\"main\"", "\"mian\"", 1)).unwrap_err().to_string();
    assert!(error.contains("mian"), "{error}");
}
