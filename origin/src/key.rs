//! Names of objects in a store.

use std::fmt;
use std::str::FromStr;

/// Longest key, in bytes: what S3 and its siblings accept.
pub const MAX_KEY_BYTES: usize = 1024;

/// Longest segment, in bytes, so that a segment with a suffix is still a file name on every Unix file system.
pub const MAX_SEGMENT_BYTES: usize = 250;

/// The name of an object: `/`-separated segments. A `Key` maintains these invariants:
///
/// - it is UTF-8 of 1 to [`MAX_KEY_BYTES`] bytes;
/// - no segment is empty, so it neither begins nor ends with `/` and has no `//`;
/// - no segment is `.` or `..`, so it cannot climb out of a folder;
/// - no segment is longer than [`MAX_SEGMENT_BYTES`] bytes;
/// - it has no control characters, so it can stand in a log line and in a file name.
///
/// Keys order by their bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`] names the invariant that does not hold.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bad = |why| Err(KeyError { key: text.chars().take(80).collect(), why });
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > MAX_KEY_BYTES {
            return bad("it is longer than 1024 bytes");
        }
        if text.chars().any(char::is_control) {
            return bad("it has a control character");
        }
        for segment in text.split('/') {
            match segment {
                "" => return bad("it has an empty segment: a '/' at an end, or two in a row"),
                "." | ".." => return bad("it has a '.' or '..' segment"),
                long if long.len() > MAX_SEGMENT_BYTES => return bad("a segment is longer than 250 bytes"),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// The key below this one named `rest`, which may have several segments.
    ///
    /// # Errors
    /// [`KeyError`] when the whole is not a key.
    pub fn join(&self, rest: &str) -> Result<Self, KeyError> {
        Self::parse(&format!("{}/{rest}", self.0))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments in order; there is at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether this key lies below `folder`: `a/b` is below `a`, `ab` and `a` are not.
    pub fn is_below(&self, folder: &Key) -> bool {
        self.0.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.0)
    }
}

/// Why text is not a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} is not an object key: {why}")]
pub struct KeyError {
    /// The beginning of the text as given.
    pub key: String,
    /// The invariant that does not hold.
    pub why: &'static str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_that_climb_hide_or_overflow_are_refused() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", "a\nb", "a\u{85}b"] {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Key::parse(&"a".repeat(251)).is_err());
        assert!(Key::parse(&["a"; 513].join("/")).is_err());
        assert!(Key::parse(&["a"; 512].join("/")).is_ok());
    }

    #[test]
    fn unusual_but_harmless_keys_are_kept_as_they_are() {
        for good in ["a", "a/b", "...", "a b", "ü/日本", "%2e%2e/x", "a\\b", "a?b#c", ".hidden", "a.o/b.d"] {
            assert_eq!(Key::parse(good).map(|k| k.to_string()).as_deref(), Ok(good));
        }
    }

    #[test]
    fn below_means_a_whole_segment() {
        let key = |s| Key::parse(s).unwrap();
        assert!(key("a/b").is_below(&key("a")));
        assert!(!key("ab/c").is_below(&key("a")));
        assert!(!key("a").is_below(&key("a")));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_it_accepts_holds_every_invariant(text in "(?s).{0,40}") {
            if let Ok(key) = Key::parse(&text) {
                prop_assert_eq!(key.as_str(), &text);
                prop_assert!(key.segments().all(|s| !s.is_empty() && s != "." && s != ".."));
                prop_assert!(!text.chars().any(char::is_control));
            }
        }

        #[test]
        fn every_path_of_plain_segments_is_a_key(parts in prop::collection::vec("[a-zA-Z0-9_-]{1,20}", 1..20)) {
            let text = parts.join("/");
            let key = Key::parse(&text).unwrap();
            prop_assert_eq!(key.segments().collect::<Vec<_>>(), parts);
        }
    }
}
