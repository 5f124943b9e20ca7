//! Projects in temporary folders: files go in, modules or errors come out.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

mod assets;
mod bounds;

const HEAD: &str = "\"name\": \"hello\", \"compatibility_date\": \"2025-01-01\", \"routes\": [\"*/\"]";

/// A folder with `files`, the first of which is the entry.
fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "wrangler.jsonc", &format!("{{{HEAD}, \"main\": {:?}}}", files[0].0));
    for (path, text) in files {
        write(dir.path(), path, text);
    }
    dir
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn bundle_in(dir: &Path) -> Result<Built, BuildErrors> {
    bundle(&Project::load(dir).unwrap_or_else(|e| panic!("{e}")))
}

#[track_caller]
fn build(files: &[(&str, &str)]) -> Built {
    bundle_in(folder_of(files).path()).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn source(built: &Built, path: &str) -> String {
    built.bundle.modules.get(path).unwrap_or_else(|| panic!("{:?}", built.bundle.modules.keys())).source.clone()
}

/// Checks that the errors of a build are exactly these: `file:line:column`, then words of the message or the help.
#[track_caller]
fn check(files: &[(&str, &str)], expected: &[(&str, &str)]) {
    check_in(folder_of(files).path(), expected);
}

#[track_caller]
fn check_in(dir: &Path, expected: &[(&str, &str)]) {
    let errors = bundle_in(dir).map(|_| Vec::new()).unwrap_or_else(|errors| errors.0);
    let shown = SourceErrors(errors.clone()).to_string();
    let places: Vec<String> = errors
        .iter()
        .map(|e| match &e.place {
            Some(place) => format!("{}:{}:{}", e.file, place.line, place.column),
            None => e.file.clone(),
        })
        .collect();
    assert_eq!(places, expected.iter().map(|(place, _)| *place).collect::<Vec<_>>(), "{shown}");
    for (error, (_, words)) in errors.iter().zip(expected) {
        let said = format!("{}\n{}", error.message, error.help);
        assert!(said.contains(words), "{words:?} is not in:\n{shown}");
    }
}

#[test]
fn javascript_that_needs_no_guessing_is_not_changed() {
    let text = "import { a } from './a.js';\r\nimport\t* as e from \"skerry:edge\"\nexport default { fetch: () => a(e) }; // é";
    let built = build(&[("src/index.js", text), ("src/a.js", "export const a = 1")]);
    assert_eq!(source(&built, "src/index.js"), text);
    assert_eq!(built.bundle.modules.keys().collect::<Vec<_>>(), ["src/a.js", "src/index.js"]);
    assert_eq!(built.bundle.main.as_deref(), Some("src/index.js"));
    assert!(built.bundle.modules.values().all(|module| module.source_map.is_none()));
}

#[test]
fn typescript_becomes_javascript_with_a_source_map() {
    let text = "enum Color { Red, Green = 'g' }\nnamespace N { export const x: number = 1 }\n\
                abstract class A<T> { constructor(private readonly t: T) {} }\n\
                type B = string;\nexport default { color: Color.Red as unknown as B, n: N.x!, A } satisfies object;\n";
    let built = build(&[("src/index.ts", text)]);
    let js = source(&built, "src/index.ts");
    for gone in ["enum ", "namespace", "abstract", "satisfies", ": number", "private"] {
        assert!(!js.contains(gone), "{gone}: {js}");
    }
    assert!(js.contains("Color[\"Green\"] = \"g\"") && !js.contains("sourceMappingURL"), "{js}");
    let map = built.bundle.modules["src/index.ts"].source_map.clone().unwrap();
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    assert_eq!(map["sources"], serde_json::json!(["src/index.ts"]));
    assert_eq!(map["sourcesContent"], serde_json::json!([text]), "errors show the line that was written");
}

#[test]
fn decorators_are_transpiled() {
    let text = "function d(_: unknown, c: DecoratorContext) { console.log(c.name) }\n@d class A { @d m() {} }\nexport default A;";
    let js = source(&build(&[("index.ts", text)]), "index.ts");
    assert!(!js.contains("@d"), "{js}");
    assert!(!js.contains("import "), "the decorator code needs nothing from outside: {js}");
}

#[test]
fn what_a_bundler_guesses_is_written_out() {
    let main = "import a from './a';\nimport b from './b.js';\nimport c from '.';\nimport d from './lib';\n\
                import e from './lib/';\nimport f from '../f.mjs';\nexport * from './x/../a';\n\
                const g = await import(`./g`);\nexport { a, b, c, d, e, f, g };\nexport default {};\n";
    let files: &[(&str, &str)] = &[
        ("src/main.js", main),
        ("src/a.ts", "export default 1"),
        ("src/b.ts", "export default 1"),
        ("src/index.js", "export default 1"),
        ("src/lib/index.ts", "export default 1"),
        ("f.mts", "export default 1"),
        ("src/g.jsx", "export default 1"),
    ];
    let built = build(files);
    let js = source(&built, "src/main.js");
    let expected = "import a from \"./a.ts\";\nimport b from \"./b.ts\";\nimport c from \"./index.js\";\n\
                    import d from \"./lib/index.ts\";\nimport e from \"./lib/index.ts\";\nimport f from \"../f.mts\";\n\
                    export * from \"./a.ts\";\nconst g = await import(\"./g.jsx\");\n";
    assert!(js.starts_with(expected), "{js}");
    assert_eq!(built.bundle.modules.len(), files.len());
    let mut renamed = files.to_vec();
    renamed[0].0 = "src/main.ts";
    let built = build(&renamed);
    let ts = source(&built, "src/main.ts");
    for line in expected.lines() {
        assert!(ts.contains(line), "{line} in {ts}");
    }
}

#[test]
fn the_exact_name_wins_over_a_guess() {
    let built = build(&[
        ("m.ts", "import './a.js'; import './b'"),
        ("a.js", ""),
        ("a.ts", "!"),
        ("b.ts", ""),
        ("b/index.ts", "!"),
    ]);
    assert!(built.bundle.modules.contains_key("a.js"), "{:?}", built.bundle.modules.keys());
}

#[test]
fn imports_of_types_only_are_not_followed() {
    let main = "import type { A } from './missing';\nimport { B } from 'types-from-npm';\nimport { type C } from './none';\n\
                export type { D } from './nowhere';\nimport { E, f } from './both';\n\
                export default { run: (a: A, b: B, c: C, e: E) => f(a, b, c, e) };";
    let built = build(&[("main.ts", main), ("both.ts", "export type E = 1; export const f = (...a: unknown[]) => a")]);
    assert_eq!(built.bundle.modules.keys().collect::<Vec<_>>(), ["both.ts", "main.ts"]);
    assert_eq!(source(&built, "main.ts").matches("from").count(), 1);
}

#[test]
fn cycles_and_deep_chains_end() {
    let built = build(&[
        ("a.ts", "import './b.ts'; import './a.ts'"),
        ("b.ts", "import './a'; import './c'"),
        ("c.js", "import './b'"),
    ]);
    assert_eq!(built.bundle.modules.len(), 3);
}

#[test]
fn json_and_text_become_modules() {
    let main = "import data from './data.json' with { type: 'json' };\nimport plain from './data';\nimport page from './page.html';\n\
                import code from './code.css' with { type: \"text\" };\n\
                const late = await import('./data.json', { with: { type: 'json' } });\n\
                const later = (await import('./data')).default + (await import('./code.css', { with: { type: 'text' } }));\n\
                export default { data, plain, page, code, late };";
    for main_path in ["main.js", "main.ts"] {
        let built = build(&[
            (main_path, main),
            ("data.json", "{\"__proto__\": \"\u{2028}\", \"a\": [1e3]}"),
            ("page.html", "<p>`${\"\\"),
            ("code.css", "a {}"),
        ]);
        let js = source(&built, main_path);
        for line in [
            "import data from './data.json' with { type: 'json' };",
            "import plain from './data.json' with { type: 'json' };",
            "import page from './page.html';",
            "import code from './code.css';",
            "import('./data.json', { with: { type: 'json' } })",
            "import('./data.json', { with: { type: 'json' } }) )",
            "import('./code.css')",
        ] {
            let plain = |text: &str| text.split_whitespace().collect::<String>().replace('\'', "\"");
            assert!(plain(&js).contains(&plain(line)), "{line} in {js}");
        }
        assert!(main_path == "main.ts" || js.lines().count() == main.lines().count());
        assert_eq!(source(&built, "data.json"), "{\"__proto__\": \"\u{2028}\", \"a\": [1e3]}");
        assert_eq!(source(&built, "page.html"), "export default \"<p>`${\\\"\\\\\";\n");
        assert_eq!(source(&built, "code.css"), "export default \"a {}\";\n");
    }
    check(
        &[("main.js", "import './a.json'"), ("a.json", "{\n  \"a\": 1,\n}")],
        &[("a.json:3:1", "this is not JSON: key must be a string")],
    );
    check(&[("main.js", "import './a.css'"), ("a.css", "")], &[("main.js:1:8", "{ type: \"text\" }")]);
    check(&[("main.js", "import './a.wasm'"), ("a.wasm", "")], &[("main.js:1:8", "not a kind of file")]);
    check(
        &[("main.js", "import './a.json' with { type: 'bytes' }"), ("a.json", "")],
        &[("main.js:1:8", "no imports of type")],
    );
    check(
        &[("main.js", "import './a.js';\nimport './a.js' with { type: 'text' }"), ("a.js", "1")],
        &[("main.js:2:8", "imported in two ways")],
    );
    let wrong = "import './a.json' with { type: 'text' };\nimport './a.json' with { a: 'b' };\nimport('./a.json', x)";
    check(&[("main.js", wrong), ("a.json", "1")], &[("main.js:2:24", "no type"), ("main.js:3:20", "no type")]);
    check(&[("main.js", &wrong[..39]), ("a.json", "1")], &[("main.js:1:8", "imported as JSON only")]);
}

#[test]
fn an_import_outside_the_bundle_says_what_to_do() {
    for (specifier, words) in [
        ("lodash", "bundle npm packages first, for instance with esbuild --bundle --format=esm"),
        ("@scope/x/y", "imports \"@scope/x/y\", which is outside the bundle"),
        ("util.js", "a file of the project is \"./util.js\""),
        ("node:fs", "no Node.js modules"),
        ("cloudflare:workers", "does not have the modules of Cloudflare"),
        ("skerry:edgy", "the built-in module is \"skerry:edge\""),
        ("https://esm.sh/x", "copy it into the project"),
        ("file:///etc/passwd", "copy it into the project"),
        ("data:text/javascript,1", "copy it into the project"),
        ("/etc/passwd", "copy it into the project"),
        ("", "copy it into the project"),
        ("../x.js", "is outside the project folder"),
        ("./../../x.js", "is outside the project folder"),
        ("./none.js", "there is no such file"),
        ("./none", "tried none as it is"),
        ("./x.js?raw", "has the character '?'"),
        ("./a%2fb.js", "has the character '%'"),
        ("./a.cjs", "CommonJS"),
    ] {
        for main in ["main.js", "main.ts"] {
            let text = format!("\n  import {{ x }} from {specifier:?};\nexport default x;");
            check(&[(main, &text), ("a.cjs", "")], &[(&format!("{main}:2:21"), words)]);
            let text = format!("export const x = () => import({specifier:?});");
            check(&[(main, &text), ("a.cjs", "")], &[(&format!("{main}:1:31"), words)]);
        }
    }
}

#[test]
fn an_error_shows_the_line_of_the_source() {
    let files = [("src/index.ts", "const a: number = 1;\nimport { x } from \"lodash\";\nexport default x;\n")];
    assert_eq!(
        bundle_in(folder_of(&files).path()).unwrap_err().to_string(),
        "src/index.ts:2:19: imports \"lodash\", which is outside the bundle\n  \
           2 | import { x } from \"lodash\";\n    \
             |                   ^^^^^^^^\n  \
         help: bundle npm packages first, for instance with esbuild --bundle --format=esm; a file of the project is \
         \"./lodash\""
    );
}

#[test]
fn syntax_errors_of_all_modules_are_collected() {
    check(
        &[
            ("main.ts", "import './a.js';\nimport './b.ts';\nimport './c.js';\nimport 'npm';"),
            ("a.js", "let x = 1;\nlet y = ;\n"),
            ("b.ts", "let x: = 1"),
            ("c.js", "const a = 1;\nconst a: string = 2;"),
        ],
        &[("main.ts:4:8", "\"npm\"")],
    );
    check(
        &[
            ("main.ts", "import './a.js';\nimport './b.ts';\nimport './c.js'"),
            ("a.js", "let x = 1;\nlet y = ;\n"),
            ("b.ts", "let x: = 1"),
            ("c.js", "\n\nconst a: string = 2;"),
        ],
        &[
            ("a.js:2:9", "syntax error: Expression expected"),
            ("b.ts:1:8", "syntax error"),
            ("c.js:3:7", "must be initialized"),
            ("c.js:3:8", "syntax error"),
        ],
    );
    check(&[("main.js", "export default {")], &[("main.js:1:17", "syntax error")]);
    check(&[("main.js", "<div/>")], &[("main.js:1:6", "syntax error")]);
    check(&[("main.js", "with (a) {}")], &[("main.js:1:1", "syntax error")]);
}

#[test]
fn common_js_is_explained_unless_the_module_has_exports() {
    check(&[("main.js", "\nmodule.exports = { fetch() {} };")], &[("main.js:2:1", "this is a CommonJS module")]);
    check(&[("main.js", "exports.fetch = 1;")], &[("main.js:1:1", "esbuild --bundle --format=esm")]);
    check(&[("main.js", "const x = require('x');")], &[("main.js:1:11", "this is a CommonJS module")]);
    check(
        &[("main.ts", "import x = require('./x');\nexport default x;")],
        &[("main.ts:1:1", "import = require() is CommonJS")],
    );
    check(&[("main.ts", "const a = 1;\nexport = a;")], &[("main.ts:2:1", "export default")]);
    build(&[("main.js", "const module = {}; module.exports = 1; export default module;")]);
}

#[test]
fn a_computed_import_is_a_warning() {
    let built = build(&[("main.js", "const n = 'a';\nexport default () => import(`./${n}.js`);")]);
    let warnings = SourceErrors(built.warnings).to_string();
    assert!(warnings.starts_with("main.js:2:22: this import is computed"), "{warnings}");
}

#[test]
fn symbolic_links_do_not_lead_out_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "secret.js", "export default 1");
    let dir = folder_of(&[
        ("main.js", "import './link.js';\nimport './folder/secret.js'; import './inside.js'"),
        ("real.js", ""),
    ]);
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
    link(&outside.path().join("secret.js"), "link.js");
    link(outside.path(), "folder");
    link(Path::new("real.js"), "inside.js");
    check_in(
        dir.path(),
        &[("main.js:1:8", "is outside the project folder"), ("main.js:2:8", "is outside the project folder")],
    );
}

#[test]
fn jsx_uses_a_local_factory() {
    let page = "/** @jsx h */\nimport { h } from './h';\nexport default () => <p class=\"a\">hi</p>;";
    let built = build(&[
        ("main.js", "import p from './page'; export default p"),
        ("page.tsx", page),
        ("h.ts", "export const h = (...a: unknown[]) => a"),
    ]);
    assert!(source(&built, "page.tsx").contains("h(\"p\""), "{}", source(&built, "page.tsx"));
    let automatic = "/** @jsxImportSource preact */\nexport default () => <p>hi</p>;";
    check(&[("main.tsx", automatic)], &[("main.tsx:1:1", "\"preact/jsx-runtime\", which is outside the bundle")]);
}

#[test]
fn main_must_be_a_module() {
    check(&[("main.json", "{}")], &[("main.json", "this is data, not a module")]);
    check(&[("main.cjs", "")], &[("main.cjs", "CommonJS")]);
    check(&[("main.css", "")], &[("main.css", "not a kind of file")]);
}

#[test]
fn a_module_that_is_not_text_is_refused() {
    let dir = folder_of(&[("main.js", "import './a.js'")]);
    fs::write(dir.path().join("a.js"), [0xff, 0xfe, 0x00]).unwrap();
    check_in(dir.path(), &[("a.js", "is not UTF-8 text")]);
}

#[test]
fn the_same_project_gives_the_same_bytes_in_any_folder() {
    let files: &[(&str, &str)] =
        &[("src/main.ts", "import { a } from './a'; export default a as number;"), ("src/a.ts", "export const a = 1;")];
    let (one, two) = (folder_of(files), folder_of(files));
    let (bytes, digest) = bundle_in(one.path()).unwrap().bundle.encode();
    assert_eq!(bundle_in(two.path()).unwrap().bundle.encode().1, digest);
    let text = String::from_utf8(bytes).unwrap();
    assert!(!text.contains(&*one.path().to_string_lossy()), "{text}");
    assert!(Bundle::decode(text.as_bytes(), &digest).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_relative_specifier_leads_back_to_its_file(from in "([a-c]/){0,3}[a-c]", to in "([a-c]/){0,3}[a-c]") {
        let specifier = resolve::relative(&from, &to);
        prop_assert!(specifier.starts_with("./") || specifier.starts_with("../"));
        prop_assert_eq!(crate::project::folder::join(crate::project::folder::parent(&from), &specifier).unwrap(), to);
    }

    #[test]
    fn arbitrary_source_never_panics(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("import "), Just("export "), Just("default "), Just("from "), Just("'./a'"), Just("\"skerry:edge\""),
                Just("{"), Just("}"), Just("("), Just(")"), Just("*"), Just("`"), Just("${"), Just("/"), Just("<"), Just(">"),
                Just("type "), Just("with "), Just("enum "), Just("x"), Just("="), Just(":"), Just(";"), Just("\n"), Just("é"),
                Just("\\u{d800}"), Just("'\\ud800'"), Just("@"), Just("#"), Just("require"), Just("await "), Just("1n"),
            ],
            0..24,
        ),
    ) {
        for main in ["main.js", "main.ts", "main.tsx"] {
            let _ = bundle_in(folder_of(&[(main, &pieces.concat()), ("a.ts", "")]).path());
        }
    }
}
