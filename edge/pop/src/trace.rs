//! The trace that a request belongs to (<https://www.w3.org/TR/trace-context/>). A PoP adds no spans: it passes on what it
//! was given.

use http::{HeaderMap, HeaderName, HeaderValue};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// A `traceparent` that is one, and the `tracestate` beside it.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    parent: HeaderValue,
    states: Vec<HeaderValue>,
}

impl Trace {
    /// The trace that a request's fields name.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(PARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        id(parent)?;
        Some(Self { parent: parent.clone(), states: headers.get_all(STATE).iter().cloned().collect() })
    }

    /// Its id, 32 digits.
    pub(crate) fn id(&self) -> &str {
        id(&self.parent).unwrap_or("-")
    }

    /// Puts a subrequest into the trace, unless it is in one.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap) {
        if headers.contains_key(PARENT) {
            return;
        }
        headers.insert(PARENT, self.parent.clone());
        headers.remove(STATE);
        self.states.iter().for_each(|state| _ = headers.append(STATE, state.clone()));
    }
}

/// The trace id of a `traceparent`: `version-trace-parent-flags`, where a later version than 00 may go on.
fn id(parent: &HeaderValue) -> Option<&str> {
    let text = parent.to_str().ok()?;
    let (known, more) = text.split_at_checked("00-".len() + 33 + 17 + 2)?;
    let [version, trace, span, flags] = known.split('-').collect::<Vec<_>>().try_into().ok()?;
    let hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let well_formed = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    let ends = more.is_empty() || (version != "00" && more.starts_with('-'));
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    (well_formed && ends && version != "ff" && !zero(trace) && !zero(span)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_when_it_is_written_as_the_standard_says() {
        let whole = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let taken = |text: &str| id(&HeaderValue::from_str(text).unwrap()).map(str::to_owned);
        assert_eq!(taken(whole).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert!(taken(&whole.replacen("00", "01", 1)).is_some());
        assert!(taken(&format!("{}-more", whole.replacen("00", "01", 1))).is_some());
        for wrong in [
            "",
            "00",
            &whole.replacen("00", "ff", 1),
            &whole.to_uppercase(),
            &whole.replace('-', "_"),
            &whole[1..],
            &whole[..54],
            &format!("{whole}-more"),
            &format!("{}more", whole.replacen("00", "01", 1)),
            &whole.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &whole.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &whole.replace("4bf9", "4bg9"),
            &whole.replace("-00f067aa0ba902b7-", "0-0f067aa0ba902b7-"),
        ] {
            assert_eq!(taken(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn two_parents_are_none_and_a_subrequest_keeps_its_own() {
        let mut headers = HeaderMap::new();
        let parent = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        headers.append(PARENT, parent.clone());
        headers.append(STATE, HeaderValue::from_static("a=1"));
        headers.append(STATE, HeaderValue::from_static("b=2"));
        let trace = Trace::of(&headers).unwrap();
        let mut own = HeaderMap::from_iter([(PARENT, HeaderValue::from_static("own"))]);
        trace.pass_on(&mut own);
        assert_eq!(own.len(), 1);
        let mut bare = HeaderMap::from_iter([(STATE, HeaderValue::from_static("stray=1"))]);
        trace.pass_on(&mut bare);
        assert_eq!(bare, headers);
        headers.append(PARENT, parent);
        assert!(Trace::of(&headers).is_none());
    }
}
