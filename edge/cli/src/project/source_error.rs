//! One thing that is wrong in a file somebody wrote, shown the way a compiler shows it.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Most characters of a source line that are shown: minified files have lines of megabytes.
const SHOWN_CHARS: usize = 120;

/// Something wrong in a file: where, what, and what to do about it.
///
/// Shown as
/// ```text
/// wrangler.jsonc:3:5: limits.cpu: there is no key "cpu" here
///   3 |     "cpu": 50
///     |     ^^^^^
///   help: did you mean "cpu_ms"?
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SourceError {
    /// Path relative to the project folder, with `/`.
    pub file: String,
    /// Where in the file; `None` when the whole file is meant (it is missing, it is too large).
    pub place: Option<Box<Place>>,
    /// Path of the key in a project file, such as `jwt[0].issuer`; empty elsewhere.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do, as a sentence; empty when the message says it all.
    pub help: String,
}

/// A position in a file and the line it is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line, or the part of a long line around the position; control characters are replaced. Empty when the line
    /// is empty or must not be shown.
    pub source: String,
    /// Where the marks stand under `source`, in characters.
    pub marks: Range<usize>,
}

impl SourceError {
    /// An error about a whole file.
    pub(crate) fn in_file(file: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, key: String::new(), message: message.into(), help: help.into() }
    }

    /// An error about the bytes `span` of `text`, the content of `file`.
    pub(crate) fn at(
        file: &str,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { place: Some(Box::new(Place::of(text, span))), ..Self::in_file(file, message, help) }
    }
}

impl Place {
    /// Where the bytes `span` of `text` are. A span outside the text, or inside a character, is moved to the nearest
    /// position that exists.
    pub(crate) fn of(text: &str, span: Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.floor_char_boundary(span.end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let column = text[line_start..start].chars().count();
        let width = text[start..end.min(line_end)].chars().count().max(1);

        let skipped = if column > SHOWN_CHARS * 3 / 4 { column - SHOWN_CHARS / 2 } else { 0 };
        let source: String = line.chars().skip(skipped).take(SHOWN_CHARS).map(printable).collect();
        let first = column - skipped;
        let last = (first + width).min(source.chars().count().max(first + 1));
        Self {
            line: text[..start].bytes().filter(|&b| b == b'\n').count() + 1,
            column: column + 1,
            source,
            marks: first..last,
        }
    }
}

/// A character as it may stand on a terminal: one column, no escape sequences.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.message)?;
        if let Some(place) = self.place.as_ref().filter(|place| !place.source.is_empty()) {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            write!(f, "\n  {number} | {}", place.source.trim_end())?;
            write!(f, "\n  {margin} | {}{}", " ".repeat(place.marks.start), "^".repeat(place.marks.len()))?;
        }
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of files and lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct SourceErrors(pub Vec<SourceError>);

impl fmt::Display for SourceErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SourceErrors {}

impl From<SourceError> for SourceErrors {
    fn from(error: SourceError) -> Self {
        Self(vec![error])
    }
}
