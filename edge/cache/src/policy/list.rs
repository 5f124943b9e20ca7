//! Comma-separated field values (RFC 9110 section 5.6.1), the way hostile ones have to be read.

use http::header::{GetAll, HeaderName};
use http::{HeaderMap, HeaderValue};

/// The members of a list field, over all its lines, in order, without empty ones and surrounding whitespace.
/// A comma inside a quoted string separates nothing; a quote that is never closed is an ordinary character, so that
/// it can't hide the members behind it.
pub fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    of_lines(headers.get_all(name))
}

/// [`members`] of lines that are already looked up.
pub fn of_lines(lines: GetAll<'_, HeaderValue>) -> impl Iterator<Item = &[u8]> {
    lines.into_iter().flat_map(|line| split(line.as_bytes(), b','))
}

/// Splits at a separator outside quoted strings; trims, and leaves out what is empty.
pub fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let end = separator_at(text, separator);
            rest = end.map(|end| &text[end + 1..]);
            let member = text[..end.unwrap_or(text.len())].trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
    })
}

fn separator_at(text: &[u8], separator: u8) -> Option<usize> {
    let mut at = 0;
    // Once a quote turns out unclosed, all later ones are unclosed or inside it: look for their end only once.
    let mut quotes_close = true;
    while at < text.len() {
        match text[at] {
            b'"' if quotes_close => match closing_quote(&text[at..]) {
                Some(length) => at += length,
                None => quotes_close = false,
            },
            byte if byte == separator => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The offset of the quote that closes the string that `text` starts with.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().enumerate().skip(1).find_map(|(at, byte)| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes.then_some(at)
    })
}

/// A token or quoted string without its quotes and escapes.
pub fn unquote(value: &[u8]) -> String {
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let Some(inner) = inner else { return String::from_utf8_lossy(value).into_owned() };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut escaped = false;
    for byte in inner {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            bytes.push(*byte);
            escaped = false;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: &[&str]) {
        let found: Vec<_> = split(text.as_bytes(), b',').map(|m| String::from_utf8_lossy(m).into_owned()).collect();
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn members_are_split_outside_quotes() {
        check("", &[]);
        check(" , ,", &[]);
        check("a, b ,\tc", &["a", "b", "c"]);
        check(r#"a="x, y", b"#, &[r#"a="x, y""#, "b"]);
        check(r#"a="x\", y", b"#, &[r#"a="x\", y""#, "b"]);
    }

    #[test]
    fn an_unclosed_quote_hides_nothing() {
        check(r#"a="x, no-store"#, &[r#"a="x"#, "no-store"]);
        check(r#"a="x\", no-store"#, &[r#"a="x\""#, "no-store"]);
    }

    #[test]
    fn quotes_and_escapes_are_taken_off() {
        assert_eq!(unquote(br#""a\"b\\""#), r#"a"b\"#);
        assert_eq!(unquote(b"a"), "a");
        assert_eq!(unquote(b"\""), "\"");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_splitter_lose_a_byte_that_is_not_a_separator(text in "[a-c\", \\\\]{0,40}") {
            let kept: usize = split(text.as_bytes(), b',').map(<[u8]>::len).sum();
            let solid = text.bytes().filter(|b| b.is_ascii_lowercase() || *b == b'"').count();
            prop_assert!(kept >= solid);
        }
    }
}
