//! Static files.

use super::*;

/// A project that is only assets.
fn assets_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "wrangler.jsonc", &format!("{{{HEAD}, \"assets\": {{\"directory\": \"public\"}}}}"));
    for (path, text) in files {
        write(&dir.path().join("public"), path, text);
    }
    dir
}

#[test]
fn assets_are_published_under_their_paths_with_their_types() {
    let dir = assets_of(&[
        ("index.html", "<p>"),
        ("site/index.html", "<p>"),
        ("site/a b#?%é.txt", "x"),
        ("site/logo.svg", "<svg/>"),
        ("app.js", "1"),
        ("data.bin", "\0"),
        ("no-extension", ""),
        ("indexindex.html", "1"),
        (".secret", "no"),
        (".git/config", "no"),
        (".well-known/security.txt", "yes"),
        ("_headers", "no"),
    ]);
    let built = bundle_in(dir.path()).unwrap();
    let table: Vec<(&str, &str)> =
        built.bundle.assets.iter().map(|(path, asset)| (path.as_str(), asset.content_type.as_str())).collect();
    assert_eq!(
        table,
        [
            ("/.well-known/security.txt", "text/plain; charset=utf-8"),
            ("/app.js", "text/javascript; charset=utf-8"),
            ("/data.bin", "application/octet-stream"),
            ("/index.html", "text/html; charset=utf-8"),
            ("/indexindex.html", "text/html; charset=utf-8"),
            ("/no-extension", "application/octet-stream"),
            ("/site/a b#?%é.txt", "text/plain; charset=utf-8"),
            ("/site/index.html", "text/html; charset=utf-8"),
            ("/site/logo.svg", "image/svg+xml"),
        ]
    );
    assert_eq!(built.bundle.assets["/index.html"].digest, Digest::of(b"<p>"));
    assert_eq!(built.bundle.assets["/index.html"].size, 3);
    assert!(built.bundle.main.is_none() && built.bundle.modules.is_empty());
    assert_eq!(built.assets.len(), 7, "equal bytes are uploaded once");
    for (digest, path) in &built.assets {
        assert_eq!(Digest::of(&fs::read(path).unwrap()), *digest);
    }
    assert!(SourceErrors(built.warnings).to_string().starts_with("public/_headers: this file is not published"));
}

#[test]
fn assets_outside_the_folder_and_oversized_ones_are_refused() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    let dir = assets_of(&[("a.txt", "a")]);
    std::os::unix::fs::symlink(outside.path(), dir.path().join("public/link")).unwrap();
    check_in(dir.path(), &[("public/link", "is outside the project folder")]);
    let dir = assets_of(&[("sub/a.txt", "a")]);
    std::os::unix::fs::symlink(".", dir.path().join("public/sub/loop")).unwrap();
    check_in(dir.path(), &[("public/sub/loop", "this is not a file")]);
    let dir = assets_of(&[("a.txt", "a")]);
    fs::File::create(dir.path().join("public/big")).unwrap().set_len(1 << 40).unwrap();
    check_in(dir.path(), &[("public/big", "is larger than 100 MiB")]);
}

#[test]
fn every_file_that_cannot_be_published_is_reported() {
    let dir = assets_of(&[("a.txt", "a"), ("b\nc.txt", "b"), (&"d".repeat(251), "d")]);
    check_in(
        dir.path(),
        &[
            ("public/b\nc.txt", "it has a control character"),
            (&format!("public/{}", "d".repeat(251)), "a segment is longer than 250 bytes"),
        ],
    );
}
