//! Walking a tree of values: every accessor notes what is wrong and goes on, so that one run finds all errors.

use std::ops::Range;

use super::document::{Entry, Flaw, Node, Value};
use super::source_error::SourceError;

/// Most errors that are kept: a person reads fewer, and finding a line costs a pass over the text.
const MAX_KEPT: usize = 100;

/// What is wrong so far, and what is merely doubtful.
pub(super) struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    count: usize,
    found: Vec<(usize, SourceError)>,
    doubts: Vec<SourceError>,
}

/// A value under a key (or an index), with the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: &'a Value,
}

/// The keys of one table. A key that [`Fields::get`] never asked for is unknown when [`Fields::finish`] looks.
pub(super) struct Fields<'a> {
    path: String,
    span: Range<usize>,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, count: 0, found: Vec::new(), doubts: Vec::new() }
    }

    /// Notes an error at `span`.
    pub(super) fn error(
        &mut self,
        path: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.count += 1;
        if self.found.len() == MAX_KEPT {
            return;
        }
        let start = span.start;
        let error = SourceError::at(self.file, self.text, span, message, help);
        self.found.push((start, SourceError { key: path.to_owned(), ..error }));
    }

    /// Notes an error at a field's value.
    pub(super) fn wrong(&mut self, field: &Field<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.error(&field.path, field.value.span.clone(), message, help);
    }

    /// Notes that a field's value has the wrong type.
    pub(super) fn expected(&mut self, field: &Field<'_>, what: &str) {
        self.wrong(field, format!("expected {what}, found {}", field.value.kind()), "");
    }

    /// Notes something that works but is probably not meant.
    pub(super) fn doubt(
        &mut self,
        path: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.doubts.len() == MAX_KEPT {
            return;
        }
        let warning = SourceError::at(self.file, self.text, span, message, help);
        self.doubts.push(SourceError { key: path.to_owned(), ..warning });
    }

    /// Notes what is wrong with the text itself.
    pub(super) fn flaw(&mut self, flaw: Flaw) {
        self.error("", flaw.span, flaw.message, flaw.help);
    }

    /// The number of errors so far, kept or not.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The errors in the order of the file, and the warnings.
    pub(super) fn finish(mut self) -> (Vec<SourceError>, Vec<SourceError>) {
        self.found.sort_by_key(|(start, _)| *start);
        let found = self.found.into_iter().map(|(_, error)| discreet(error)).collect();
        (found, self.doubts.into_iter().map(discreet).collect())
    }

    /// The field's table, or an error.
    pub(super) fn table<'v>(&mut self, field: &Field<'v>) -> Option<Fields<'v>> {
        match &field.value.node {
            Node::Table(entries) => {
                Some(Fields { path: field.path.clone(), span: field.value.span.clone(), entries, known: Vec::new() })
            }
            _ => {
                self.expected(field, "an object");
                None
            }
        }
    }

    /// The field's items, or an error.
    pub(super) fn array<'v>(&mut self, field: &Field<'v>) -> Vec<Field<'v>> {
        match &field.value.node {
            Node::Array(items) => items
                .iter()
                .enumerate()
                .map(|(i, value)| Field { path: format!("{}[{i}]", field.path), key_span: value.span.clone(), value })
                .collect(),
            _ => {
                self.expected(field, "an array");
                Vec::new()
            }
        }
    }

    /// The field's text, or an error. Empty text is an error: no key of a project file means anything by it.
    pub(super) fn string<'v>(&mut self, field: &Field<'v>) -> Option<&'v str> {
        match &field.value.node {
            Node::String(text) if text.is_empty() => {
                self.wrong(field, "the text is empty", "");
                None
            }
            Node::String(text) => Some(text),
            _ => {
                self.expected(field, "a string");
                None
            }
        }
    }

    /// The field's items, each a text, or errors.
    pub(super) fn strings<'v>(&mut self, field: &Field<'v>) -> Vec<&'v str> {
        let items = self.array(field);
        items.iter().filter_map(|item| self.string(item)).collect()
    }

    /// The field's integer in `range`, or an error.
    pub(super) fn integer(&mut self, field: &Field<'_>, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let bounds = format!("a whole number from {} to {}", range.start(), range.end());
        let Node::Number(number) = &field.value.node else {
            self.expected(field, &bounds);
            return None;
        };
        match number.as_u64() {
            Some(n) if range.contains(&n) => Some(n),
            _ => {
                self.wrong(field, format!("{number} is not {bounds}"), "");
                None
            }
        }
    }
}

/// The error without its source line when that line may hold a secret: errors end up in the logs of build machines. All of
/// a verifier may stand on one line, and what is not understood may stand beside a secret.
fn discreet(mut error: SourceError) -> SourceError {
    let of_a_verifier = error.key.strip_prefix("jwt[").is_some_and(|rest| rest.find(']') == Some(rest.len() - 1));
    let of_a_key = of_a_verifier || error.key.contains(".keys[");
    if let Some(place) = &mut error.place
        && (of_a_key || holds_secret(&place.source))
    {
        place.source.clear();
    }
    error
}

/// Whether a line gives a value to the key `secret`.
fn holds_secret(line: &str) -> bool {
    line.match_indices("secret").any(|(at, word)| {
        line[at + word.len()..].trim_start_matches(['"', '\'']).trim_start().starts_with([':', '=', '"'])
    })
}

impl<'a> Fields<'a> {
    /// The field under `key`, which is known from now on.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.field(entry))
    }

    /// The field under `key`, or an error that says what to write.
    pub(super) fn required(&mut self, findings: &mut Findings<'_>, key: &'static str, help: &str) -> Option<Field<'a>> {
        let field = self.get(key);
        if field.is_none() {
            self.missing(findings, &format!("the key {key:?} is missing"), help);
        }
        field
    }

    /// Notes that something is missing in this table.
    pub(super) fn missing(&self, findings: &mut Findings<'_>, message: &str, help: &str) {
        findings.error(&self.path, self.span.start..self.span.start, message, help);
    }

    /// Every field with its name, in the order of the file.
    pub(super) fn named(&self) -> Vec<(&'a str, Field<'a>)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.field(entry))).collect()
    }

    /// Exactly one of `keys`; none or several are errors.
    pub(super) fn one_of(
        &mut self,
        findings: &mut Findings<'_>,
        keys: &[&'static str],
    ) -> Option<(&'static str, Field<'a>)> {
        let mut present: Vec<_> = keys.iter().filter_map(|&key| Some((key, self.get(key)?))).collect();
        for (key, field) in present.iter().skip(1) {
            let first = present[0].0;
            let message = format!("{key:?} and {first:?} exclude each other");
            findings.error(&field.path, field.key_span.clone(), message, "keep one of them");
        }
        if present.is_empty() {
            let names = keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ");
            let message = if keys.len() == 1 {
                format!("the key {names} is missing")
            } else {
                format!("one of {names} is missing")
            };
            self.missing(findings, &message, "");
            return None;
        }
        Some(present.swap_remove(0))
    }

    /// Reports every key nobody asked for. `unsupported` are names that mean something elsewhere, but not here.
    pub(super) fn finish(self, findings: &mut Findings<'_>, unsupported: &[&str]) {
        for (key, field) in self.named() {
            if self.known.contains(&key) {
                continue;
            }
            if unsupported.contains(&key) {
                let message = format!("{key:?} is a wrangler key that Skerry does not support yet");
                let help = match nearest(key, &self.known) {
                    // That "kv_namespaces" has "name" in it helps nobody.
                    Some((name, true)) if name.len() * 2 > key.len() => {
                        format!("remove it; the nearest supported key is {name:?}")
                    }
                    _ => "remove it".to_owned(),
                };
                findings.error(&field.path, field.key_span, message, help);
                continue;
            }
            let help = match nearest(key, &self.known) {
                Some((name, true)) => format!("did you mean {name:?}?"),
                Some((name, false)) => {
                    format!("the nearest known key is {name:?}; keys here are {}", self.known.join(", "))
                }
                None => "no keys belong here".to_owned(),
            };
            findings.error(&field.path, field.key_span, format!("there is no key {key:?} here"), help);
        }
    }

    fn field(&self, entry: &'a Entry) -> Field<'a> {
        let path = match self.path.as_str() {
            "" => entry.key.clone(),
            path => format!("{path}.{}", entry.key),
        };
        Field { path, key_span: entry.key_span.clone(), value: &entry.value }
    }
}

/// The name most like `key`, and whether it is so near that `key` is probably a slip for it.
pub(super) fn nearest<'n>(key: &str, names: &[&'n str]) -> Option<(&'n str, bool)> {
    let key: String = key.chars().take(64).collect::<String>().to_lowercase().replace('-', "_");
    let (distance, name) = names.iter().map(|name| (edit_distance(&key, name), *name)).min_by_key(|(d, _)| *d)?;
    let contained = key.len() >= 3 && (name.contains(&*key) || key.contains(name));
    Some((name, distance <= 1.max(name.len().max(key.len()) / 3) || contained))
}

/// Insertions, deletions, replacements and swaps of neighbours that make `a` of `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}
