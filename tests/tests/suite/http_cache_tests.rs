use std::path::Path;

use tests::fleet::function;
use tests::http_cache_tests::{Server, known, outdated, package, run, score, unexpected};
use tests::{Fleet, Lone};

/// The package's tests, on a PoP whose every path is this project's, against the list of known failures.
async fn conforms(setup: &str, project: impl FnOnce(&Path)) {
    let Some(package) = package() else { return };
    let folder = tempfile::tempdir().unwrap();
    project(&folder.path().join("all"));
    let file = folder.path().join("all/wrangler.jsonc");
    let text = std::fs::read_to_string(&file).unwrap().replace(r#""*/all/*", "*/all""#, r#""*/*""#);
    std::fs::write(file, text).unwrap();
    let server = Server::start(&package, folder.path());
    let pop = Lone::before(server.address, Fleet::of(folder.path()), &[]).await;

    let outcomes = run(&package, pop.address, &[]);
    let (required, optimal) = (score(&outcomes, "required"), score(&outcomes, "optimal"));
    println!(
        "http-cache-tests, {setup}: {} of {} required, {} of {} optimal",
        required.0, required.1, optimal.0, optimal.1
    );
    assert!(required.1 + optimal.1 > 200, "the package has more tests than {outcomes:?}");
    let known = known(setup);
    let first = unexpected(&outcomes, &known);
    // Some compare ages of a few seconds, which a machine that is busy with a hundred of them at once can spoil.
    let ids: Vec<_> = first.iter().map(|outcome| outcome.id.as_str()).collect();
    let again = if ids.is_empty() { Vec::new() } else { run(&package, pop.address, &ids) };
    let mut complaints: Vec<_> = unexpected(&again, &known)
        .iter()
        .map(|outcome| format!("{} ({}) fails: {}: {}", outcome.id, outcome.kind, outcome.name, outcome.why))
        .collect();
    complaints.extend(outdated(&outcomes, &known));
    assert!(complaints.is_empty(), "tests/http-cache-tests.json, {setup}:\n{}", complaints.join("\n"));
}

#[tokio::test]
async fn a_cache_behind_a_function_does_what_the_specification_says_but_for_a_list_that_shrinks() {
    let passes = "export default { fetch: (request) => fetch(request) }";
    conforms("behind a function", |folder| drop(function(folder, "", &[("index.js", passes)]))).await;
}

#[tokio::test]
async fn a_cache_in_front_of_a_function_does_what_the_specification_says_but_for_a_list_that_shrinks() {
    let passes = "export default { fetch: (request) => fetch(request) }";
    let enabled = r#""cache": { "enabled": true }"#;
    conforms("in front of a function", |folder| drop(function(folder, enabled, &[("index.js", passes)]))).await;
}

#[tokio::test]
async fn a_cache_without_a_function_does_what_the_specification_says_but_for_a_list_that_shrinks() {
    conforms("no function", |folder| {
        function(folder, "", &[("index.js", "")]);
        std::fs::remove_file(folder.join("index.js")).unwrap();
        std::fs::create_dir(folder.join("public")).unwrap();
        std::fs::write(folder.join("public/file.txt"), "a project has something").unwrap();
        let file = folder.join("wrangler.jsonc");
        let text = std::fs::read_to_string(&file).unwrap();
        let assets = text.replace(r#""main": "index.js""#, r#""assets": { "directory": "public" }"#);
        std::fs::write(file, assets).unwrap();
    })
    .await;
}
