//! What an import means: a file of the project, the built-in module, or an error that says what to do instead.

use crate::project::folder::{self, Folder, FolderError};

/// The one module that is there without being in the bundle.
pub(super) const BUILT_IN: &str = "skerry:edge";

/// Extensions tried for a specifier without one, in this order (that of esbuild, TypeScript first).
const GUESSED: [&str; 7] = ["ts", "tsx", "mts", "js", "mjs", "jsx", "json"];

/// What a module is written in, and so how it becomes JavaScript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    JavaScript,
    Jsx,
    TypeScript,
    Tsx,
    Json,
    Text,
}

/// What a specifier stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    BuiltIn,
    File {
        /// Relative to the project folder.
        path: String,
        kind: Kind,
    },
}

/// Why an import is refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) help: String,
}

fn refuse<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), help: help.into() })
}

/// What `specifier` means in the module `importer`. `attribute` is the `type` of its import attributes.
pub(super) fn resolve(
    folder: &Folder,
    importer: &str,
    specifier: &str,
    attribute: Option<&str>,
) -> Result<Target, Refusal> {
    if specifier == BUILT_IN {
        return Ok(Target::BuiltIn);
    }
    if !(specifier.starts_with("./") || specifier.starts_with("../") || matches!(specifier, "." | "..")) {
        return refuse_other(specifier);
    }
    let joined = match folder::join(folder::parent(importer), specifier) {
        Ok(joined) => joined,
        Err(error) => return refuse(format!("{specifier:?} {error}"), error.help()),
    };
    let path = find(folder, &joined, specifier)?;
    let kind = kind_of(&path, attribute)?;
    Ok(Target::File { path, kind })
}

/// How the file `path` is read when it is imported with this `type` attribute.
pub(super) fn kind_of(path: &str, attribute: Option<&str>) -> Result<Kind, Refusal> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match (attribute, extension.as_str()) {
        (Some("text"), "json") => refuse(format!("{path} is imported as JSON only"), "rename it to import it as text"),
        (Some("text"), _) => Ok(Kind::Text),
        (Some("json"), "json") | (None, "json") => Ok(Kind::Json),
        (Some("json"), _) => refuse(format!("{path} is not a .json file"), "remove with { type: \"json\" }"),
        (Some(other), _) => {
            refuse(format!("there are no imports of type {other:?}"), "the types are \"json\" and \"text\"")
        }
        (None, "js" | "mjs") => Ok(Kind::JavaScript),
        (None, "jsx") => Ok(Kind::Jsx),
        (None, "ts" | "mts") => Ok(Kind::TypeScript),
        (None, "tsx") => Ok(Kind::Tsx),
        (None, "txt" | "html" | "sql") => Ok(Kind::Text),
        (None, "cjs" | "cts") => refuse(format!("{path} is a CommonJS module"), COMMON_JS),
        (None, _) => refuse(
            format!("{path} is not a kind of file that can be imported"),
            "modules are .ts, .tsx, .mts, .js, .jsx and .mjs; .json, .txt, .html and .sql are data; import any other \
             text with { type: \"text\" }",
        ),
    }
}

/// What to do about CommonJS.
pub(super) const COMMON_JS: &str =
    "functions are ES modules (import and export): bundle it first, for instance with esbuild --bundle --format=esm";

/// A specifier that is neither relative nor built in.
fn refuse_other<T>(specifier: &str) -> Result<T, Refusal> {
    if specifier.starts_with("skerry:") {
        let message = format!("there is no built-in module {specifier:?}");
        return refuse(message, format!("the built-in module is {BUILT_IN:?}"));
    }
    if specifier.starts_with("node:") {
        let help = "Skerry has no Node.js modules: use the web APIs, or bundle a replacement";
        return refuse(format!("imports {specifier:?}, which is outside the bundle"), help);
    }
    if specifier.starts_with("cloudflare:") {
        let help = "Skerry does not have the modules of Cloudflare";
        return refuse(format!("imports {specifier:?}, which is outside the bundle"), help);
    }
    if specifier.starts_with('/') || specifier.contains(':') || specifier.is_empty() {
        let help = "copy it into the project and import it by a relative path such as \"./util.ts\"";
        return refuse(format!("imports {specifier:?}, which is outside the bundle"), help);
    }
    refuse(
        format!("imports {specifier:?}, which is outside the bundle"),
        format!(
            "bundle npm packages first, for instance with esbuild --bundle --format=esm; a file of the project is \
             \"./{specifier}\""
        ),
    )
}

/// The file a bundler would take for `joined`: itself, with an extension, TypeScript for JavaScript, the index.
fn find(folder: &Folder, joined: &str, specifier: &str) -> Result<String, Refusal> {
    let mut candidates = Vec::with_capacity(16);
    if !joined.is_empty() && !specifier.ends_with('/') {
        candidates.push(joined.to_owned());
        for (javascript, typescripts) in [(".js", [".ts", ".tsx"].as_slice()), (".mjs", &[".mts"]), (".jsx", &[".tsx"])]
        {
            if let Some(stem) = joined.strip_suffix(javascript) {
                candidates.extend(typescripts.iter().map(|extension| format!("{stem}{extension}")));
            }
        }
        candidates.extend(GUESSED.map(|extension| format!("{joined}.{extension}")));
    }
    let index = if joined.is_empty() { "index".to_owned() } else { format!("{joined}/index") };
    candidates.extend(GUESSED.map(|extension| format!("{index}.{extension}")));
    for candidate in candidates {
        match folder.file(&candidate) {
            Ok(_) => return Ok(candidate),
            Err(FolderError::Missing | FolderError::NotAFile) => {}
            Err(error) => return refuse(format!("{candidate} {error}"), error.help()),
        }
    }
    let help = format!("tried {joined} as it is, with .ts, .tsx, .mts, .js, .mjs, .jsx and .json, and as a folder");
    refuse(format!("imports {specifier:?}, and there is no such file"), help)
}

/// The specifier that means `path` in the module `importer`, without any guessing.
pub(super) fn relative(importer: &str, path: &str) -> String {
    let from: Vec<&str> = folder::parent(importer).split('/').filter(|part| !part.is_empty()).collect();
    let to: Vec<&str> = path.split('/').collect();
    let shared = from.iter().zip(&to[..to.len() - 1]).take_while(|(a, b)| a == b).count();
    let up = from.len() - shared;
    let prefix = if up == 0 { "./".to_owned() } else { "../".repeat(up) };
    format!("{prefix}{}", to[shared..].join("/"))
}
