//! Every module the entry can reach.

use std::collections::{BTreeMap, VecDeque};

use origin::bundle::{MAX_BUNDLE_BYTES, Module};

use crate::project::{Project, SourceError};

use super::module::{self, Compiled};
use super::resolve::{self, Kind, Target};
use super::{MAX_MODULES, MAX_REPORTED, too_large};

/// The modules of a bundle, and what is wrong with them.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) modules: BTreeMap<String, Module>,
    pub(super) errors: Vec<SourceError>,
    pub(super) warnings: Vec<SourceError>,
    kinds: BTreeMap<String, Kind>,
    queue: VecDeque<(String, Kind)>,
    bytes: usize,
}

/// Compiles `main` and everything it imports, breadth first.
pub(super) fn walk(project: &Project, main: &str) -> Graph {
    let mut graph = Graph::default();
    match resolve::kind_of(main, None) {
        Ok(Kind::Json | Kind::Text) => {
            let help = "\"main\" is a module, for instance src/index.ts";
            graph.errors.push(SourceError::in_file(main, "this is data, not a module", help));
        }
        Ok(kind) => graph.enqueue(main.to_owned(), kind),
        Err(refusal) => graph.errors.push(SourceError::in_file(main, refusal.message, refusal.help)),
    }
    while let Some((path, kind)) = graph.queue.pop_front() {
        if graph.errors.len() >= MAX_REPORTED {
            break;
        }
        graph.visit(project, path, kind);
        if graph.bytes > MAX_BUNDLE_BYTES {
            graph.errors.push(too_large(project.file, graph.bytes, &graph.modules, &BTreeMap::new()));
            break;
        }
    }
    graph
}

impl Graph {
    fn enqueue(&mut self, path: String, kind: Kind) {
        self.kinds.insert(path.clone(), kind);
        self.queue.push_back((path, kind));
    }

    fn visit(&mut self, project: &Project, path: String, kind: Kind) {
        let text = match project.folder.read(&path, MAX_BUNDLE_BYTES as u64) {
            Ok(text) => text,
            Err(error) => {
                self.errors.push(SourceError::in_file(&path, format!("this module {error}"), error.help()));
                return;
            }
        };
        let mut resolve = |specifier: &str, attribute: Option<&str>| {
            let target = resolve::resolve(&project.folder, &path, specifier, attribute)?;
            let emitted = match &target {
                Target::BuiltIn => specifier.to_owned(),
                Target::File { path: file, .. } => resolve::relative(&path, file),
            };
            Ok((target, emitted))
        };
        match module::compile(&path, &text, kind, &mut resolve) {
            Ok(compiled) => self.add(path, &text, compiled),
            Err(errors) => self.errors.extend(errors),
        }
    }

    fn add(&mut self, path: String, text: &str, compiled: Compiled) {
        for (span, target) in compiled.imports {
            let Target::File { path: file, kind } = target else { continue };
            match self.kinds.get(&file) {
                Some(known) if *known == kind => {}
                Some(_) => {
                    let message = format!("{file} is imported in two ways");
                    let help = "import it everywhere with the same type, or copy it under another name";
                    self.errors.push(SourceError::at(&path, text, span, message, help));
                }
                None if self.kinds.len() == MAX_MODULES => {
                    let message = format!("a bundle has at most {MAX_MODULES} modules");
                    let help = "bundle it first, for instance with esbuild --bundle --format=esm";
                    self.errors.push(SourceError::at(&path, text, span, message, help));
                    self.queue.clear();
                    return;
                }
                None => self.enqueue(file, kind),
            }
        }
        self.warnings.extend(compiled.warnings);
        self.warnings.truncate(MAX_REPORTED);
        self.bytes += compiled.module.source.len() + compiled.module.source_map.as_ref().map_or(0, String::len);
        self.modules.insert(path, compiled.module);
    }
}
