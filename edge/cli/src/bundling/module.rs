//! One file of the project as one module of the bundle.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use deno_ast::{
    DecoratorsTranspileOption, EmitOptions, MediaType, ModuleSpecifier, ParseDiagnostic, ParseParams, ParsedSource,
    SourceMapOption, StartSourcePos, TranspileModuleOptions, TranspileOptions, parse_module_with_post_process,
};
use origin::bundle::Module;

use crate::project::SourceError;

use super::imports::{Edit, Import, Imports, Resolve, quoted};
use super::nesting;
use super::resolve::{Kind, Refusal, Target};

/// Most errors of one module that are reported.
const MAX_ERRORS: usize = 20;

/// A module of the bundle and where its imports lead.
pub(super) struct Compiled {
    pub(super) module: Module,
    /// The files it imports, with where it does.
    pub(super) imports: Vec<(Range<usize>, Target)>,
    pub(super) warnings: Vec<SourceError>,
}

/// Compiles the file `path` with the content `text`.
pub(super) fn compile(path: &str, text: &str, kind: Kind, resolve: Resolve<'_>) -> Result<Compiled, Vec<SourceError>> {
    match kind {
        Kind::Json => json(path, text),
        Kind::Text => Ok(data(format!("export default {};\n", quoted(text)))),
        Kind::JavaScript => script(path, text, MediaType::JavaScript, resolve),
        Kind::Jsx => script(path, text, MediaType::Jsx, resolve),
        Kind::TypeScript => script(path, text, MediaType::TypeScript, resolve),
        Kind::Tsx => script(path, text, MediaType::Tsx, resolve),
    }
}

fn data(source: String) -> Compiled {
    Compiled { module: Module { source, source_map: None }, imports: Vec::new(), warnings: Vec::new() }
}

/// JSON stays JSON: its importers ask for it by an import attribute.
fn json(path: &str, text: &str) -> Result<Compiled, Vec<SourceError>> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = line_start + error.column().saturating_sub(1);
        let message = error.to_string();
        let message = message.rsplit_once(" at line").map_or(message.as_str(), |(message, _)| message);
        return Err(vec![SourceError::at(path, text, at..at, format!("this is not JSON: {message}"), "")]);
    }
    Ok(data(text.to_owned()))
}

fn script(path: &str, text: &str, media_type: MediaType, resolve: Resolve<'_>) -> Result<Compiled, Vec<SourceError>> {
    if let Some((span, message)) = nesting::too_deep(text) {
        return Err(vec![SourceError::at(path, text, span, message, "move data into a .json file")]);
    }
    let mut imports = None;
    let parsed = parse_module_with_post_process(params(path, text, media_type), |mut module, _| {
        imports = Some(Imports::of(&mut module, resolve));
        module
    })
    .map_err(|diagnostic| vec![syntax_error(path, text, &diagnostic)])?;
    let syntax_errors = parsed.diagnostics().iter().chain(parsed.script_module_diagnostics());
    let errors: Vec<SourceError> =
        syntax_errors.take(MAX_ERRORS).map(|diagnostic| syntax_error(path, text, diagnostic)).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let Some(mut imports) = imports else {
        return Err(vec![SourceError::in_file(path, "the compiler gave up on this module", "")]);
    };
    if !imports.refused.is_empty() {
        return Err(refusals(path, text, imports.refused));
    }
    let (module, dropped) = if media_type == MediaType::JavaScript {
        (Module { source: edited(text, imports.edits), source_map: None }, HashSet::new())
    } else {
        transpile(path, text, parsed, &mut imports.refused, &imports.found)?
    };
    let mut reached = Vec::new();
    for import in imports.found.into_iter().filter(|import| !dropped.contains(&import.emitted)) {
        match import.target {
            Ok(target) => reached.push((import.span, target)),
            Err(refusal) => imports.refused.push((import.span, refusal)),
        }
    }
    if !imports.refused.is_empty() {
        return Err(refusals(path, text, imports.refused));
    }
    let warnings = imports.computed.into_iter().take(MAX_ERRORS).map(|span| computed(path, text, span)).collect();
    Ok(Compiled { module, imports: reached, warnings })
}

/// Transpiles, and tells which specifiers are gone: TypeScript drops imports of which only types are used.
fn transpile(
    path: &str,
    text: &str,
    parsed: ParsedSource,
    refused: &mut Vec<(Range<usize>, Refusal)>,
    found: &[Import],
) -> Result<(Module, HashSet<String>), Vec<SourceError>> {
    let whole = |message: String| vec![SourceError::in_file(path, message, "")];
    let options = TranspileOptions { decorators: DecoratorsTranspileOption::Ecma, ..TranspileOptions::default() };
    let emit = EmitOptions {
        source_map: SourceMapOption::Separate,
        source_map_base: ModuleSpecifier::parse("file:///").ok(),
        source_map_file: None,
        // Errors of a function show the line that its author wrote. Without its source, a PoP has only what was made of it.
        inline_sources: true,
        remove_comments: false,
    };
    let emitted = parsed
        .transpile(&options, &TranspileModuleOptions::default(), &emit)
        .map_err(|error| whole(format!("this cannot be transpiled: {error}")))?
        .into_source();
    let kept =
        specifiers(path, &emitted.text).map_err(|error| whole(format!("this transpiles to no JavaScript: {error}")))?;
    let written: HashSet<&str> = found.iter().map(|import| import.emitted.as_str()).collect();
    for added in kept.iter().filter(|specifier| !written.contains(specifier.as_str())) {
        refused.push((
            0..text.len().min(1),
            Refusal {
                message: format!("JSX would import {added:?}, which is outside the bundle"),
                help: "begin the file with /** @jsx h */ and import your h by a relative path".to_owned(),
            },
        ));
    }
    let dropped = written.iter().filter(|specifier| !kept.contains(**specifier)).map(|s| (*s).to_owned()).collect();
    Ok((Module { source: emitted.text, source_map: emitted.source_map }, dropped))
}

/// Every specifier in JavaScript that has just been emitted.
fn specifiers(path: &str, text: &str) -> Result<HashSet<String>, ParseDiagnostic> {
    let mut kept = HashSet::new();
    let mut keep = |specifier: &str, _: Option<&str>| {
        kept.insert(specifier.to_owned());
        Ok((Target::BuiltIn, specifier.to_owned()))
    };
    parse_module_with_post_process(params(path, text, MediaType::JavaScript), |mut module, _| {
        Imports::of(&mut module, &mut keep);
        module
    })?;
    Ok(kept)
}

fn params(path: &str, text: &str, media_type: MediaType) -> ParseParams {
    let mut specifier = ModuleSpecifier::parse("file:///").expect("this is an address");
    specifier.set_path(path);
    ParseParams {
        specifier,
        text: Arc::from(text),
        media_type,
        capture_tokens: false,
        scope_analysis: false,
        maybe_syntax: None,
    }
}

/// `text` with the edits, none of which moves a line.
fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| edit.span.start);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for edit in edits {
        out.push_str(&text[done..edit.span.start]);
        out.push_str(&edit.text);
        if edit.text.is_empty() {
            out.extend(text[edit.span.clone()].chars().map(|c| if matches!(c, '\n' | '\r') { c } else { ' ' }));
        }
        done = edit.span.end;
    }
    out.push_str(&text[done..]);
    out
}

fn syntax_error(path: &str, text: &str, diagnostic: &ParseDiagnostic) -> SourceError {
    let span = diagnostic.range().as_byte_range(StartSourcePos::START_SOURCE_POS);
    SourceError::at(path, text, span, format!("syntax error: {}", diagnostic.kind().msg()), "")
}

fn refusals(path: &str, text: &str, mut refused: Vec<(Range<usize>, Refusal)>) -> Vec<SourceError> {
    refused.sort_by_key(|(span, _)| span.start);
    refused.truncate(MAX_ERRORS);
    refused
        .into_iter()
        .map(|(span, refusal)| SourceError::at(path, text, span, refusal.message, refusal.help))
        .collect()
}

fn computed(path: &str, text: &str, span: Range<usize>) -> SourceError {
    let help = "only modules that are imported by name somewhere are in the bundle; any other fails when it runs";
    SourceError::at(path, text, span, "this import is computed", help)
}
