//! A bound on how deep a program goes, found before a parser goes there.
//!
//! Compilers descend once for each level, so a program of a million opening brackets, or of one sum with a million
//! terms, would take the whole process down. The scan knows strings and comments but not regular expressions; where
//! one misleads it, the scan sees less nesting than there is until the end of the line, never more.

use std::ops::Range;

/// Deepest nesting of brackets. Programs written by people stay below 50, bundled ones below 200.
const MAX_BRACKETS: usize = 1_000;

/// Most words and operators between two separators (`,`, `;`, `{`, `}`): a sum of ten thousand terms has twice as many.
const MAX_CHAIN: usize = 20_000;

/// The place where `text` goes too deep, and what is too much there.
pub(super) fn too_deep(text: &str) -> Option<(Range<usize>, String)> {
    let bytes = text.as_bytes();
    let (mut at, mut brackets, mut chain) = (0, 0_usize, 0_usize);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' | b'\'' => at = string_end(bytes, at),
            b'`' => at = template_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = find(bytes, at, b"\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = find(bytes, at + 2, b"*/"),
            b',' | b';' => chain = 0,
            b'(' | b'[' | b'{' => brackets += 1,
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            byte if is_word(byte) => {
                chain += 1;
                while bytes.get(at + 1).is_some_and(|&next| is_word(next)) {
                    at += 1;
                }
            }
            byte if byte.is_ascii_punctuation() => chain += 1,
            _ => {}
        }
        if matches!(bytes[start], b'{' | b'}') {
            chain = 0;
        }
        if brackets > MAX_BRACKETS {
            return Some((start..start + 1, format!("brackets are nested more than {MAX_BRACKETS} deep")));
        }
        if chain > MAX_CHAIN {
            return Some((start..start + 1, format!("this expression has more than {MAX_CHAIN} parts")));
        }
        at += 1;
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// Where the string that begins at `start` ends: at its quote, or with its line.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != bytes[start] && bytes[at] != b'\n' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// Where the template that begins at `start` ends. What stands in its holes is passed over.
fn template_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'`' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// The last byte of the next `end` at or after `from`, or the end of the text.
fn find(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(end.len()).position(|window| window == end).map_or(bytes.len(), |at| from + at + end.len() - 1)
}
