//! Programs that are too much: too large, too many, too deep.

use super::*;

#[test]
fn the_size_of_a_bundle_is_bounded_and_the_largest_modules_named() {
    let big = format!("export default {:?}", "x".repeat(6 << 20));
    let dir = folder_of(&[
        ("main.js", "import './a.js'; import './b.js'; import './c.js'"),
        ("a.js", &big),
        ("b.js", &big),
        ("c.js", ""),
    ]);
    check_in(dir.path(), &[("wrangler.jsonc", "the largest modules are b.js (6.0 MiB), a.js (6.0 MiB)")]);
    let dir = folder_of(&[("main.js", "import './a.js'"), ("a.js", "")]);
    fs::File::create(dir.path().join("a.js")).unwrap().set_len(1 << 40).unwrap();
    check_in(dir.path(), &[("a.js", "is larger than 10 MiB")]);
    let escapes = "\u{1}".repeat(3 << 20);
    check(&[("main.js", "import './a.txt'"), ("a.txt", &escapes)], &[("wrangler.jsonc", "the bundle has more than")]);
}

#[test]
fn the_number_of_modules_is_bounded() {
    let dir = folder_of(&[("m0.js", "import './m1.js'")]);
    for i in 1..=MAX_MODULES {
        write(dir.path(), &format!("m{i}.js"), &format!("import './m{}.js'", i + 1));
    }
    check_in(dir.path(), &[("m1999.js:1:8", "at most 2000 modules")]);
}

#[test]
fn the_deepest_program_that_is_let_through_compiles() {
    let deep = |open: &str, times: usize, close: &str| {
        format!("export default {}1{};", open.repeat(times), close.repeat(times))
    };
    for text in [
        deep("(", 990, ")"),
        deep("[", 990, "]"),
        deep("{a:", 990, "}"),
        deep("()=>", 5_000, ""),
        deep("!", 19_900, ""),
        deep("1+", 9_900, ""),
        deep("a?", 4_900, ":1"),
        deep("typeof ", 19_900, ""),
        deep("a=>", 6_000, ""),
    ] {
        for main in ["main.js", "main.ts"] {
            build(&[(main, &text)]);
        }
    }
}

#[test]
fn a_program_that_goes_too_deep_is_refused_before_it_is_parsed() {
    for (text, words) in [
        ("(".repeat(5 << 20), "nested more than 1000 deep"),
        ("[\n".repeat(100_000), "nested more than 1000 deep"),
        ("1+".repeat(5 << 20), "more than 20000 parts"),
        ("typeof ".repeat(1 << 20), "more than 20000 parts"),
        ("`${".repeat(1 << 20), "nested more than 1000 deep"),
    ] {
        let errors = bundle_in(folder_of(&[("main.js", &text)]).path()).unwrap_err();
        assert!(errors.0[0].message.contains(words) && errors.0[0].place.is_some(), "{errors}");
    }
    let data = format!(
        "export default [\"{}\", /{}/, `{}`]; // {}",
        "(+".repeat(90_000),
        "x",
        "[".repeat(9_000),
        "{".repeat(9_000)
    );
    build(&[("main.js", &data)]);
    let lines: String = (0..50_000).map(|i| format!("const a{i} = [{i}, f(a{i} + 1)];\n")).collect();
    build(&[("main.js", &format!("export default 1\n{lines}"))]);
}
