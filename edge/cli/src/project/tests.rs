//! One `check` per language: a text goes in, the places and words of its errors come out.

use std::fs;

use origin::bundle::{Brake, JwtKeyMaterial, OnFailure, Period};
use proptest::prelude::*;
use serde_json::json;

use super::source_error::Place;
use super::*;

mod env;
mod fuzz;

/// A key that signs nothing: its private half was thrown away.
const PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAETzGjFMFtRRIfT/ROZSroPHcSua1r
Y62VxQ3TIX+QIblqbw0UbsavVCw+vdoBZLiBVavCOdCYCyH5OwvtcI6tFQ==
-----END PUBLIC KEY-----
";

/// The same key.
const PUBLIC_JWK: &str = r#"{"kty":"EC","crv":"P-256",
"x":"TzGjFMFtRRIfT_ROZSroPHcSua1rY62VxQ3TIX-QIbk","y":"am8NFG7Gr1QsPr3aAWS4gVWrwjnQmAsh-TsL7XCOrRU"}"#;

/// A folder with a module, assets and keys, and the given project file.
fn folder_with(name: &str, text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in [
        ("src/index.ts", "export default {}"),
        ("public/logo.svg", "<svg/>"),
        ("key.pem", PUBLIC_PEM),
        ("private.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ("key.jwk", PUBLIC_JWK),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(dir.path().join(name), text).unwrap();
    dir
}

fn load(name: &str, text: &str) -> Result<Project, ProjectErrors> {
    Project::load(folder_with(name, text).path())
}

/// The project file around `keys`, which begin on line 2.
fn jsonc(keys: &str) -> String {
    format!("{{\n{keys},\n\"name\": \"hello\", \"main\": \"src/index.ts\", \"compatibility_date\": \"2025-01-01\"}}")
}

/// The project file that ends with `keys`, which begin on line 4.
fn toml(keys: &str) -> String {
    format!("name = \"hello\"\nmain = \"src/index.ts\"\ncompatibility_date = \"2025-01-01\"\n{keys}\n")
}

/// Checks that the errors of a file are exactly these: place and key, then words of the message or the help.
#[track_caller]
fn check(name: &str, text: &str, expected: &[(&str, &str)]) {
    let errors = match load(name, text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0,
    };
    let shown = SourceErrors(errors.clone()).to_string();
    let places: Vec<String> = errors
        .iter()
        .map(|e| match &e.place {
            Some(place) => format!("{}:{} {}", place.line, place.column, e.key),
            None => e.key.clone(),
        })
        .collect();
    assert_eq!(places, expected.iter().map(|(place, _)| *place).collect::<Vec<_>>(), "{shown}");
    for (error, (_, words)) in errors.iter().zip(expected) {
        let said = format!("{}\n{}", error.message, error.help);
        assert!(said.contains(words), "{words:?} is not in:\n{shown}");
    }
}

#[track_caller]
fn check_jsonc(keys: &str, expected: &[(&str, &str)]) {
    check("wrangler.jsonc", &jsonc(keys), expected);
}

#[track_caller]
fn check_toml(keys: &str, expected: &[(&str, &str)]) {
    check("wrangler.toml", &toml(keys), expected);
}

#[track_caller]
fn config(keys: &str) -> FunctionConfig {
    load("wrangler.jsonc", &jsonc(keys)).unwrap_or_else(|e| panic!("{e}")).config
}

#[test]
fn a_complete_file_gives_the_same_configuration_in_both_languages() {
    let from_jsonc = load(
        "wrangler.jsonc",
        r#"{
  "$schema": "node_modules/wrangler/config-schema.json", // ignored
  "name": "hello", "main": "./src/index.ts", "compatibility_date": "2024-02-29", "compatibility_flags": [],
  "vars": { "GREETING": "hi", "LIST": [1, 2.5, null, true], "NESTED": { "a": { "b": "c" } } },
  "routes": ["*/hello", { "pattern": "example.com/api/*" }],
  "limits": { "cpu_ms": "20ms", "subrequests": 5, "heap_bytes": "64MiB", "wall_ms": 1000, },
  "ratelimits": [{ "name": "LIMITER", "namespace_id": "1001", "simple": { "limit": 10, "period": 60 } }],
  "assets": { "directory": "./public/", "cache_control": "no-cache" },
  "jwt": [{ "binding": "AUTH", "issuer": "me", "audiences": ["you", "them"], "leeway": "30s",
            "keys": [{ "kid": "1", "algorithm": "ES256", "pem_file": "key.pem" }] }],
  "cohorts": [{ "binding": "AB", "experiment": "button", "cohorts": { "treatment": 50, "control": 50 } }],
  "on_failure": "origin", /* trailing comma: */
}"#,
    )
    .unwrap();
    let from_toml = load(
        "wrangler.toml",
        r#"
name = "hello"
main = "src/index.ts"
compatibility_date = 2024-02-29
compatibility_flags = []
routes = ["*/hello", { pattern = "example.com/api/*" }]
on_failure = "origin"

[vars]
GREETING = "hi"
LIST = [1, 2.5, false, true]
[vars.NESTED.a]
b = "c"

[limits]
cpu_ms = 20
subrequests = 5
heap_bytes = 67_108_864
wall_ms = "1s"

[[ratelimits]]
binding = "LIMITER"
namespace_id = 1001
simple = { limit = 10, period = "1m" }

[assets]
directory = "public"
cache_control = "no-cache"

[[jwt]]
binding = "AUTH"
issuers = ["me"]
audience = ["you", "them"]
leeway = 30
[[jwt.keys]]
kid = "1"
algorithm = "ES256"
pem_file = "key.pem"

[[cohorts]]
binding = "AB"
experiment = "button"
[cohorts.cohorts]
treatment = 50
control = 50
"#,
    )
    .unwrap();
    let mut expected = from_toml.config.clone();
    expected.vars.insert("LIST".into(), json!([1, 2.5, null, true]));
    assert_eq!(from_jsonc.config, expected);
    assert_eq!((from_jsonc.main.as_deref(), &from_jsonc.assets), (Some("src/index.ts"), &from_toml.assets));
    assert_eq!(from_jsonc.assets.unwrap().directory, "public");
    let config = from_jsonc.config;
    assert_eq!(config.limits["cpu_ms"], 20);
    assert_eq!(config.limits["heap_bytes"], 64 << 20);
    assert_eq!(config.on_failure, OnFailure::Origin);
    assert_eq!(config.cohorts[0].cohorts[0].name, "treatment", "the order of the file is kept");
    assert!(matches!(&config.jwt[0].keys[0].material, JwtKeyMaterial::Pem(pem) if pem == PUBLIC_PEM));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_key() {
    check_jsonc("\"vras\": {}", &[("2:1 vras", "did you mean \"vars\"?")]);
    check_jsonc(
        "\n  \"compatability_flags\": []",
        &[("3:3 compatability_flags", "did you mean \"compatibility_flags\"")],
    );
    check_jsonc("\"limits\": {\n \"cpu\": 5}", &[("3:2 limits.cpu", "did you mean \"cpu_ms\"?")]);
    check_jsonc("\"limits\": {\"cpuMs\": 5}", &[("2:12 limits.cpuMs", "did you mean \"cpu_ms\"?")]);
    check_jsonc("\"onFailure\": \"closed\"", &[("2:1 onFailure", "did you mean \"on_failure\"?")]);
    check_jsonc("\"xyzzy_plugh\": 1", &[("2:1 xyzzy_plugh", "the nearest known key is")]);
    check_toml("rotues = []", &[("4:1 rotues", "did you mean \"routes\"?")]);
    check_toml("[limits]\nsubrequest = 5", &[("5:1 limits.subrequest", "did you mean \"subrequests\"?")]);
    check_toml(
        "[[ratelimits]]\nname = \"A\"\nsimple = { limit = 1, perod = 60 }",
        &[("6:10 ratelimits[0].simple", "\"period\" is missing"), ("6:23 ratelimits[0].simple.perod", "\"period\"")],
    );
}

#[test]
fn a_wrangler_key_that_is_not_supported_says_so() {
    check_jsonc("\"kv_namespaces\": []", &[("2:1 kv_namespaces", "a wrangler key that Skerry does not support yet")]);
    check_jsonc("\"rules\": []", &[("2:1 rules", "the nearest supported key is \"routes\"")]);
    check_toml("[observability]\nenabled = true", &[("4:2 observability", "does not support yet")]);
    check_jsonc(
        "\"assets\": {\"directory\": \"public\", \"binding\": \"ASSETS\"}",
        &[("2:35 assets.binding", "fetch(request) reaches them")],
    );
    check_jsonc(
        "\"routes\": [{\"pattern\": \"a.com/*\", \"zone_name\": \"a.com\"}]",
        &[("2:35 routes[0].zone_name", "does not support yet")],
    );
}

#[test]
fn all_errors_are_collected_in_the_order_of_the_file() {
    check(
        "wrangler.jsonc",
        "{\n\"main\": \"src/none.ts\",\n\"name\": \"Hello\",\n\"limits\": { \"cpu_ms\": 0, \"wall\": 1 },\n\"vras\": 1\n}",
        &[
            ("1:1 ", "\"compatibility_date\" is missing"),
            ("2:9 main", "does not exist"),
            ("3:9 name", "is not a function name"),
            ("4:23 limits.cpu_ms", "a limit of 0"),
            ("4:26 limits.wall", "wall_ms"),
            ("5:1 vras", "vars"),
        ],
    );
}

#[test]
fn an_error_shows_the_line_and_marks_the_place() {
    let errors = load("wrangler.jsonc", &jsonc("\t\"limits\": { \"cpu\": 50 }")).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "wrangler.jsonc:2:14: limits.cpu: there is no key \"cpu\" here\n  \
           2 |  \"limits\": { \"cpu\": 50 },\n    \
             |              ^^^^^\n  \
         help: did you mean \"cpu_ms\"?"
    );
}

#[test]
fn a_long_line_is_cut_around_the_place_and_control_characters_do_not_reach_the_terminal() {
    let place = Place::of(&format!("{}\u{1b}[31mX{}", "a".repeat(1000), "b".repeat(1000)), 1005..1006);
    assert_eq!((place.line, place.column), (1, 1006));
    assert!(place.source.chars().count() <= 120 && place.source.contains("\u{fffd}[31mX"));
    assert_eq!(place.source.chars().nth(place.marks.start), Some('X'));
}

#[test]
fn syntax_errors_have_a_line_in_both_languages() {
    check("wrangler.jsonc", "{\n  \"name\": \"a\"\n  \"main\": 1 }", &[("2:14 ", "comma")]);
    check("wrangler.jsonc", "{\n  \"name\": 'a' }", &[("2:11 ", "single-quoted")]);
    check("wrangler.json", "", &[("1:1 ", "the file is empty")]);
    check("wrangler.json", "// nothing", &[("1:1 ", "the file is empty")]);
    check("wrangler.json", "[]", &[("1:1 ", "expected an object, found an array")]);
    check("wrangler.toml", "name = \"a\"\nmain = \n", &[("2:8 ", "")]);
    check("wrangler.toml", "name = \"a\"\n[limits\ncpu_ms = 1", &[("2:8 ", "")]);
}

#[test]
fn a_key_written_twice_is_an_error_in_both_languages() {
    check_jsonc("\"vars\": {\"A\": 1,\n\"A\": 2}", &[("3:1 ", "\"A\" is written twice")]);
    check_toml("[vars]\nA = 1\nA = 2", &[("6:1 ", "duplicate key")]);
}

#[test]
fn nesting_and_numbers_are_bounded() {
    let deep = format!("\"vars\": {{\"A\": {}{}}}", "[".repeat(100), "]".repeat(100));
    check_jsonc(&deep, &[("2:78 ", "more than 64 deep")]);
    let absurd = format!("\"vars\": {{\"A\": {}", "[".repeat(100_000));
    check_jsonc(&absurd, &[("2:523 ", "depth")]);
    check_jsonc("\"vars\": {\"A\": 1e999}", &[("2:15 ", "out of range")]);
    check_toml("[vars]\nA = inf", &[("5:5 ", "out of range")]);
    assert_eq!(config("\"vars\": {\"A\": 18446744073709551615, \"B\": -1e3}").vars["A"], json!(u64::MAX));
}

#[test]
fn the_date_must_exist() {
    for (date, good) in [
        ("2024-02-29", true),
        ("2023-02-29", false),
        ("1900-02-29", false),
        ("2000-02-29", true),
        ("2025-13-01", false),
        ("2025-00-01", false),
        ("2025-04-31", false),
        ("2025-4-30", false),
        ("2025-04-300", false),
        ("2025/04/30", false),
        ("today", false),
        ("２０２５-04", false),
    ] {
        let text = format!("{{\"name\": \"a\", \"main\": \"src/index.ts\", \"compatibility_date\": {date:?}}}");
        assert_eq!(load("wrangler.json", &text).is_ok(), good, "{date}");
    }
}

#[test]
fn paths_stay_inside_the_folder() {
    for (path, words) in [
        ("../x.ts", "outside the project folder"),
        ("src/../../x.ts", "outside the project folder"),
        ("/etc/passwd", "absolute"),
        ("src", "is not a file"),
        ("src/index.ts/x", "does not exist"),
        ("src\\index.ts", "character"),
    ] {
        let text = format!("{{\n\"main\": {path:?}, \"name\": \"a\", \"compatibility_date\": \"2025-01-01\"}}");
        check("wrangler.json", &text, &[("2:9 main", words)]);
    }
    let dir = folder_with("wrangler.jsonc", &jsonc("\"vars\": {}").replace("src/index.ts", "link.ts"));
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link.ts")).unwrap();
    let errors = Project::load(dir.path()).unwrap_err().to_string();
    assert!(errors.contains("is outside the project folder") || errors.contains("does not exist"), "{errors}");
}

#[test]
fn flags_are_refused_with_a_reason() {
    check_jsonc(
        "\"compatibility_flags\": [\"nodejs_compat\"]",
        &[("2:25 compatibility_flags[0]", "no Node.js modules")],
    );
    check_jsonc(
        "\"compatibility_flags\": [\"x\", 1]",
        &[
            ("2:25 compatibility_flags[0]", "not supported"),
            ("2:30 compatibility_flags[1]", "expected a string, found a number"),
        ],
    );
}

#[test]
fn routes_are_patterns_each_once() {
    assert_eq!(config("\"route\": \"Example.com/a\"").routes[0].to_string(), "example.com/a");
    check_jsonc("\"routes\": [\"hello\"]", &[("2:12 routes[0]", "there is no '/'")]);
    check_jsonc("\"routes\": [\"https://a.com/*\"]", &[("2:12 routes[0]", "without a scheme")]);
    check_jsonc(
        "\"routes\": [\"*/a\", {\"pattern\": \"*/a\"}]",
        &[("2:31 routes[1].pattern", "the same route as routes[0]")],
    );
    check_jsonc("\"routes\": \"*/a\"", &[("2:11 routes", "expected an array, found a string")]);
    check_jsonc("\"route\": \"*/a\",\n\"routes\": [\"*/b\"]", &[("2:1 route", "exclude each other")]);
    check_jsonc("\"routes\": [{}]", &[("2:12 routes[0]", "\"pattern\" is missing")]);
}

#[test]
fn a_function_without_routes_is_doubtful_but_loads() {
    assert_eq!(load("wrangler.jsonc", &jsonc("\"vars\": {}")).unwrap().warnings.len(), 1);
    assert!(load("wrangler.jsonc", &jsonc("\"route\": \"*/\"")).unwrap().warnings.is_empty());
}

#[test]
fn limits_have_units_and_maxima() {
    for (key, value, expected) in [
        ("cpu_ms", "\"2s\"", 2_000),
        ("cpu_ms", "\"50 ms\"", 50),
        ("wall_ms", "\"1m\"", 60_000),
        ("heap_bytes", "\"128MiB\"", 128 << 20),
        ("buffer_bytes", "\"1MB\"", 1_000_000),
        ("buffer_bytes", "\"64kib\"", 65_536),
        ("subrequests", "0", 0),
        ("log_bytes", "100", 100),
        ("subrequests", "7", 7),
    ] {
        assert_eq!(config(&format!("\"limits\": {{{key:?}: {value}}}")).limits[key], expected, "{key} {value}");
    }
    for (key, value, words) in [
        ("cpu_ms", "\"50\"", "\"50ms\""),
        ("cpu_ms", "\"50MiB\"", "\"50ms\""),
        ("cpu_ms", "\"ms\"", "\"50ms\""),
        ("cpu_ms", "-1", "-1 is not"),
        ("cpu_ms", "1.5", "1.5 is not"),
        ("cpu_ms", "true", "found a boolean"),
        ("cpu_ms", "\"1h\"", "the most that can be asked for is 30 s"),
        ("heap_bytes", "\"1GiB\"", "the most that can be asked for is 512 MiB"),
        ("heap_bytes", "\"99999999999999999999GiB\"", "is not"),
        ("heap_bytes", "\"18446744073709551615GiB\"", "is not"),
        ("subrequests", "\"7\"", "a whole number"),
        ("subrequests", "10001", "the most that can be asked for is 10000"),
        ("heap_bytes", "\"1MiB\"", "the least that works is 8 MiB"),
        ("stack_bytes", "\"1MiB\"", "this is 984 KiB for every function"),
    ] {
        let column = 15 + key.len() + 1;
        let keys = format!("\"limits\": {{{key:?}: {value}}}");
        check_jsonc(&keys, &[(&format!("2:{column} limits.{key}"), words)]);
    }
}

#[test]
fn a_placement_is_one_of_three_or_what_wrangler_calls_so() {
    use origin::bundle::Placement::{Auto, Edge, Region};
    for (text, placement) in [
        ("\"edge\"", Edge),
        ("\"region\"", Region),
        ("\"auto\"", Auto),
        ("{ \"mode\": \"smart\" }", Auto),
        ("{ \"mode\": \"off\" }", Edge),
    ] {
        assert_eq!(config(&format!("\"placement\": {text}")).placement, placement, "{text}");
    }
    assert_eq!(config("\"vars\": {}").placement, Auto);
    check_jsonc("\"placement\": \"moon\"", &[("2:14 placement", "is no placement")]);
    check_jsonc("\"placement\": { \"mode\": \"fast\" }", &[("2:24 placement.mode", "is no mode of placement")]);
    check_jsonc("\"placement\": 7", &[("2:14 placement", "")]);
}

#[test]
fn more_than_the_edge_gives_is_asked_for_with_a_placement_and_for_regions_alone() {
    let declared = config("\"placement\": \"auto\", \"limits\": { \"heap_bytes\": \"1GiB\" }");
    assert_eq!(declared.limits["heap_bytes"], 1 << 30);
    let regional = config("\"region\": { \"limits\": { \"cpu_ms\": \"5m\" }, \"objective_ms\": \"300ms\" }");
    assert_eq!((regional.region_limits["cpu_ms"], regional.region_objective_ms), (300_000, Some(300)));
    check_jsonc(
        "\"placement\": \"edge\", \"limits\": { \"heap_bytes\": \"1GiB\" }",
        &[("2:48 limits.heap_bytes", "the most that can be asked for is 512 MiB")],
    );
    check_jsonc(
        "\"region\": { \"limits\": { \"heap_bytes\": \"5GiB\" } }",
        &[("2:39 region.limits.heap_bytes", "the most that can be asked for is 4 GiB")],
    );
    check_jsonc("\"placement\": \"edge\", \"region\": {}", &[("2:22 region", "is never in a region")]);
    check_jsonc("\"region\": { \"objective_ms\": 0 }", &[("2:29 region.objective_ms", "cannot be kept")]);
    check_jsonc("\"region\": { \"memory\": 1 }", &[("2:13 region.memory", "there is no key")]);
}

#[test]
fn every_limit_of_the_table_is_a_key() {
    for row in &isolate::limits::TABLE {
        assert_eq!(config(&format!("\"limits\": {{{:?}: {}}}", row.key, row.max)).limits[row.key], row.max);
    }
}

#[test]
fn a_profile_gives_its_limits_and_single_ones_override_it() {
    for profile in &isolate::limits::PROFILES {
        let limits = config(&format!("\"limits\": {{\"profile\": {:?}}}", profile.name)).limits;
        for (limit, value) in profile.values {
            assert_eq!(limits[limit.row().key], (*value).max(limit.row().min), "{} {limit:?}", profile.name);
        }
        let limits =
            config(&format!("\"limits\": {{\"cpu_ms\": 7, \"profile\": {:?}, \"log_bytes\": 5}}", profile.name)).limits;
        assert_eq!((limits["cpu_ms"], limits["log_bytes"]), (7, 5), "{}", profile.name);
    }
    let toml = load("wrangler.toml", &toml("[limits]\nprofile = \"deno-deploy\"\nwall_ms = \"2s\"")).unwrap();
    assert_eq!((toml.config.limits["heap_bytes"], toml.config.limits["wall_ms"]), (512 << 20, 2_000));
}

#[test]
fn an_unknown_profile_is_named_with_its_line_and_the_nearest() {
    for (text, help) in [
        ("cloudflare-worker", "did you mean \"cloudflare-workers\"?"),
        ("Deno-Deploy", "did you mean \"deno-deploy\"?"),
        ("vercel_edge", "did you mean \"vercel-edge\"?"),
        ("lambda-edge-viewers", "did you mean \"lambda-edge-viewer\"?"),
        ("nginx", "the profiles are cloudflare-workers"),
    ] {
        let keys = format!("\"limits\": {{\n\"profile\": {text:?}}}");
        check_jsonc(&keys, &[("3:12 limits.profile", "there is no profile")]);
        let errors = load("wrangler.jsonc", &jsonc(&keys)).unwrap_err().to_string();
        assert!(errors.contains(help), "{errors}");
    }
    check_jsonc("\"limits\": {\"profile\": 5}", &[("2:23 limits.profile", "expected a string")]);
    check_toml("[limits]\nprofile = \"deno\"", &[("5:11 limits.profile", "there is no profile \"deno\"")]);
}

#[test]
fn what_a_pop_cannot_give_of_a_profile_is_said() {
    let warned = |limits: &str| {
        let keys = format!("\"route\": \"*/\", \"limits\": {{{limits}}}");
        load("wrangler.jsonc", &jsonc(&keys)).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for quiet in ["cloudflare-workers", "cloudflare-workers-free", "vercel-edge", "deno-deploy"] {
        assert_eq!(warned(&format!("\"profile\": {quiet:?}")), Vec::<String>::new(), "{quiet}");
    }
    for (limits, words) in [
        ("\"profile\": \"cloudfront-functions\"", &["heap_bytes 8 MiB instead of 2 MiB"][..]),
        ("\"profile\": \"lambda-edge-viewer\"", &["needs a region node", "a PoP gives all"]),
        (
            "\"profile\": \"lambda-edge-origin\"",
            &["needs a region node", "cpu_ms 30 s instead of 60 s", "heap_bytes 512 MiB instead of 10 GiB"],
        ),
        ("\"profile\": \"lambda-edge-origin\", \"heap_bytes\": \"1GB\"", &[]),
    ] {
        if words.is_empty() {
            let keys = format!("\"limits\": {{{limits}}}");
            check_jsonc(&keys, &[("2:59 limits.heap_bytes", "the most that can be asked for is 512 MiB")]);
            continue;
        }
        let warnings = warned(limits);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for word in words {
            assert!(warnings[0].contains(word), "{word:?} is not in {}", warnings[0]);
        }
    }
    let origin = warned("\"profile\": \"lambda-edge-origin\", \"heap_bytes\": \"64MiB\"");
    assert!(!origin[0].contains("heap_bytes 512"), "{origin:?}");
}

#[test]
fn assets_never_publish_the_project_itself() {
    check_jsonc("\"assets\": {\"directory\": \".\"}", &[("2:25 assets.directory", "would publish wrangler.jsonc")]);
    check_jsonc("\"assets\": {\"directory\": \"src\"}", &[("2:25 assets.directory", "would publish src/index.ts")]);
    check_jsonc("\"assets\": {\"directory\": \"key.pem\"}", &[("2:25 assets.directory", "is not a folder")]);
    check_jsonc("\"assets\": {}", &[("2:11 assets", "\"directory\" is missing")]);
    check_jsonc(
        "\"assets\": {\"directory\": \"public\", \"cache_control\": \"a\\nb\"}",
        &[("2:52 assets.cache_control", "header")],
    );
    let only_assets =
        "{\"name\": \"a\", \"compatibility_date\": \"2025-01-01\", \"assets\": {\"directory\": \"public\"}}";
    let project = load("wrangler.json", only_assets).unwrap();
    assert_eq!((project.main, project.assets.unwrap().cache_control.as_str()), (None, DEFAULT_ASSET_CACHE_CONTROL));
    check(
        "wrangler.json",
        "{\"name\": \"a\", \"compatibility_date\": \"2025-01-01\"}",
        &[("1:1 ", "there are no \"assets\"")],
    );
}

#[test]
fn a_folder_has_exactly_one_project_file() {
    let dir = tempfile::tempdir().unwrap();
    let error = |dir: &Path| Project::load(dir).unwrap_err().to_string();
    assert!(error(dir.path()).contains("there is no project file"));
    assert!(error(&dir.path().join("none")).contains("the folder does not exist"));
    fs::write(dir.path().join("wrangler.toml"), "").unwrap();
    fs::write(dir.path().join("wrangler.json"), "").unwrap();
    assert!(error(dir.path()).contains("more than one project file: wrangler.json, wrangler.toml"));
    assert!(error(&dir.path().join("wrangler.toml")).contains("the folder is not a folder"));
}

#[test]
fn a_file_that_is_too_large_or_not_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("wrangler.toml"), vec![b' '; (MAX_PROJECT_FILE_BYTES + 1) as usize]).unwrap();
    assert!(Project::load(dir.path()).unwrap_err().to_string().contains("larger than 1 MiB"));
    fs::write(dir.path().join("wrangler.toml"), [0xff, 0xfe]).unwrap();
    assert!(Project::load(dir.path()).unwrap_err().to_string().contains("is not UTF-8 text"));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert!(load("wrangler.jsonc", &format!("\u{feff}{}", jsonc("\"vars\": {}"))).is_ok());
}

/// Text made of the pieces that parsers stumble over.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("\"".to_owned()),
        Just("\\u".to_owned()),
        Just("\\ud800".to_owned()),
        Just("//".to_owned()),
        Just("/*".to_owned()),
        Just("*/".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        Just("=".to_owned()),
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("'''".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("1e9".to_owned()),
        Just("-".to_owned()),
        Just("name".to_owned()),
        Just("\"limits\"".to_owned()),
        Just("\"jwt\": [{".to_owned()),
        Just("[[cohorts]]\n".to_owned()),
        Just("é".to_owned()),
        Just("\u{feff}".to_owned()),
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_every_place_exists(text in fragments()) {
        let dir = tempfile::tempdir().unwrap();
        for file in FILE_NAMES {
            if let Err(errors) = schema::read(Folder::open(dir.path()).unwrap(), file, &text) {
                prop_assert!(!errors.0.is_empty());
                for place in errors.0.iter().filter_map(|e| e.place.as_ref()) {
                    prop_assert!(place.line <= text.matches('\n').count() + 1);
                    prop_assert!(place.column >= 1 && place.marks.start < place.marks.end);
                }
                let _ = errors.to_string();
            }
        }
    }

    #[test]
    fn a_joined_path_never_leaves_the_root(base in "[a-c/]{0,8}", path in "[a-c./]{0,16}") {
        if let Ok(joined) = folder::join(&base, &path) {
            prop_assert!(joined.split('/').all(|part| part != ".." && part != "."));
            prop_assert!(!joined.starts_with('/') && !joined.ends_with('/'));
        }
    }
}

#[test]
fn a_budget_is_read_in_millionths_and_its_errors_name_the_key() {
    let keys = r#""budget": { "amount": 5.25, "per": "day", "alerts": [100, 50], "brake": "limit" }"#;
    let budget = load("wrangler.jsonc", &jsonc(keys)).unwrap().config.budget.unwrap();
    assert_eq!((budget.amount_micros, budget.per, budget.alerts), (5_250_000, Period::Day, vec![50, 100]));
    assert_eq!(budget.brake, Some(Brake::Limit));
    let toml =
        load("wrangler.toml", &toml("budget = { amount = 100, per = \"month\" }")).unwrap().config.budget.unwrap();
    assert_eq!(
        (toml.amount_micros, toml.per, toml.alerts, toml.brake),
        (100_000_000, Period::Month, vec![50, 80, 100], None)
    );
    for (keys, expected) in [
        (r#""budget": { "amount": 0, "per": "day" }"#, ("budget.amount", "at least 0.000001")),
        (r#""budget": { "amount": "5", "per": "day" }"#, ("budget.amount", "found a string")),
        (r#""budget": { "amount": -1, "per": "day" }"#, ("budget.amount", "at least 0.000001")),
        (r#""budget": { "amount": 1 }"#, ("budget", "\"per\" is missing")),
        (r#""budget": { "amount": 1, "per": "week" }"#, ("budget.per", "no period")),
        (r#""budget": { "amount": 1, "per": "day", "alerts": [0] }"#, ("budget.alerts[0]", "from 1 to 1000")),
        (r#""budget": { "amount": 1, "per": "day", "alerts": [5, 5] }"#, ("budget.alerts[1]", "there twice")),
        (r#""budget": { "amount": 1, "per": "day", "brake": "region" }"#, ("budget.brake", "no brake")),
        (r#""budget": { "amount": 1, "per": "day", "alert": [5] }"#, ("budget.alert", "did you mean \"alerts\"")),
    ] {
        let errors = load("wrangler.jsonc", &jsonc(keys)).unwrap_err();
        let text = errors.to_string();
        assert!(text.contains(expected.0) && text.contains(expected.1), "{keys}: {text}");
    }
}
