//! The cache directives of a response: `Cache-Control` (RFC 9111 section 5.2.2), targeted fields (RFC 9213), and the one
//! that was there before them, `Surrogate-Control`.

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderName};
use http::{HeaderMap, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::list;

/// The target list (RFC 9213 section 2.2): the first of these that is present, not empty and well formed decides alone;
/// `Cache-Control` and `Expires` are then ignored.
pub const TARGETS: [HeaderName; 2] =
    [HeaderName::from_static("skerry-cdn-cache-control"), HeaderName::from_static("cdn-cache-control")];

/// The largest number of seconds that is told apart (RFC 9111 section 1.2.2): 2^31.
const DELTA_MAX: u64 = 1 << 31;

/// What `no-cache` or `private` covers (RFC 9111 sections 5.2.2.4 and 5.2.2.7).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scope {
    /// The directive is not there.
    #[default]
    Absent,
    /// The qualified form: only these header fields.
    Fields(Vec<HeaderName>),
    /// The whole response.
    Whole,
}

/// The cache directives of a response. Directives that are not known are ignored (RFC 9111 section 5.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Control {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`, with or without field names.
    pub no_cache: Scope,
    /// `private`, with or without field names.
    pub private: Scope,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `max-age`. Zero when its value is malformed: section 4.2.1 encourages to take that as stale.
    pub max_age: Option<Duration>,
    /// `s-maxage`, likewise.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 section 3). Absent when malformed.
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 section 4). Absent when malformed.
    pub stale_if_error: Option<Duration>,
    /// These come from a targeted field, so `Expires` does not count (RFC 9213 section 2.1).
    pub targeted: bool,
}

impl Control {
    /// The directives that count for this cache: those of the first [target](TARGETS), else of `Surrogate-Control`, else of
    /// `Cache-Control`.
    pub fn of_response(headers: &HeaderMap) -> Self {
        let targeted = TARGETS.iter().find_map(|name| targeted(headers, name));
        targeted.or_else(|| surrogate(headers)).unwrap_or_else(|| untargeted(headers))
    }

    /// The header fields that may be neither stored nor sent again: those that `private` or `no-cache` name.
    /// A shared cache must not store the former; of the latter it must not send what was not just validated, and a
    /// field that is not stored never is.
    pub fn withheld(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.private, &self.no_cache].into_iter().flat_map(|scope| match scope {
            Scope::Fields(names) => names.as_slice(),
            Scope::Absent | Scope::Whole => &[],
        })
    }

    /// Takes one directive in. The first occurrence of a duration counts (RFC 9111 section 4.2.1).
    fn apply(&mut self, name: &str, argument: Argument) {
        match name {
            "no-store" => self.no_store = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "no-cache" => widen(&mut self.no_cache, argument.scope()),
            "private" => widen(&mut self.private, argument.scope()),
            "max-age" => set_once(&mut self.max_age, argument.seconds().or(Some(Duration::ZERO))),
            "s-maxage" => set_once(&mut self.s_maxage, argument.seconds().or(Some(Duration::ZERO))),
            "stale-while-revalidate" => set_once(&mut self.stale_while_revalidate, argument.seconds()),
            "stale-if-error" => set_once(&mut self.stale_if_error, argument.seconds()),
            _ => {}
        }
    }
}

/// What stands behind the `=` of a directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    None,
    /// A token, or a quoted string without its quotes.
    Text(String),
    Malformed,
}

impl Argument {
    fn text(text: &[u8]) -> Self {
        Self::Text(String::from_utf8_lossy(text).into_owned())
    }

    /// delta-seconds (RFC 9111 section 1.2.2): digits only; what is too large is 2^31.
    pub(super) fn seconds(&self) -> Option<Duration> {
        let Self::Text(text) = self else { return None };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Duration::from_secs(text.parse().unwrap_or(DELTA_MAX).min(DELTA_MAX)))
    }

    /// No argument, or one that is no list of field names, means the whole response: the safe reading.
    fn scope(&self) -> Scope {
        let Self::Text(text) = self else { return Scope::Whole };
        let names: Result<Vec<_>, _> = list::split(text.as_bytes(), b',').map(HeaderName::from_bytes).collect();
        match names {
            Ok(names) if !names.is_empty() => Scope::Fields(names),
            _ => Scope::Whole,
        }
    }
}

fn set_once(slot: &mut Option<Duration>, value: Option<Duration>) {
    if slot.is_none() {
        *slot = value;
    }
}

fn widen(scope: &mut Scope, by: Scope) {
    match (&mut *scope, by) {
        (Scope::Fields(names), Scope::Fields(more)) => names.extend(more),
        (Scope::Whole, _) | (_, Scope::Absent) => {}
        (_, by) => *scope = by,
    }
}

fn untargeted(headers: &HeaderMap) -> Control {
    let mut control = Control::default();
    for (name, argument) in directives(headers) {
        control.apply(&name, argument);
    }
    control
}

/// The directives of `Cache-Control`, of a request or a response, with names in lower case.
pub(super) fn directives(headers: &HeaderMap) -> impl Iterator<Item = (String, Argument)> {
    list::members(headers, &CACHE_CONTROL).map(|member| {
        let Some(equals) = member.iter().position(|byte| *byte == b'=') else {
            return (lower(member), Argument::None);
        };
        let (name, value) = (&member[..equals], &member[equals + 1..]);
        // No whitespace is allowed around the equals sign; one who writes it still means this directive.
        let spaced =
            name.ends_with(b" ") || name.ends_with(b"\t") || value.starts_with(b" ") || value.starts_with(b"\t");
        let argument = if spaced { Argument::Malformed } else { Argument::Text(list::unquote(value)) };
        (lower(name.trim_ascii()), argument)
    })
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// A targeted field: a Structured Fields dictionary (RFC 9213 section 2.1). `None` when absent, empty or malformed.
fn targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Control> {
    let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return None;
    }
    let members: Dictionary = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut control = Control { targeted: true, ..Control::default() };
    for (name, member) in &members {
        let argument = match member {
            ListEntry::Item(item) => match &item.bare_item {
                BareItem::Boolean(false) => continue,
                BareItem::Boolean(true) => Argument::None,
                BareItem::Integer(seconds) => Argument::Text(i64::from(*seconds).to_string()),
                BareItem::String(text) => field_names(name.as_str(), text.as_str()),
                BareItem::Token(text) => field_names(name.as_str(), text.as_str()),
                _ => Argument::Malformed,
            },
            ListEntry::InnerList(_) => Argument::Malformed,
        };
        control.apply(name.as_str(), argument);
    }
    Some(control)
}

/// What origins call this cache in `Surrogate-Control`, once `Surrogate-Capability` has told them.
const DEVICE: &[u8] = b"skerry";

/// `Surrogate-Control`, as the W3C Note "Edge Architecture Specification" 1.0 (2001) has it in section 2.1.3 and Akamai, Fastly
/// and Varnish's users still send it: `max-age=3600+600;device, no-store, content="ESI/1.0"`. What stands behind the plus
/// is how long it may be sent stale; what is meant for another device does not count. `None` when nothing in it says for
/// how long to store.
fn surrogate(headers: &HeaderMap) -> Option<Control> {
    const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
    let mut control = Control { targeted: true, ..Control::default() };
    let mut counts = false;
    // Directives for this device come before those for all: the first duration counts.
    for for_us in [true, false] {
        for member in list::members(headers, &SURROGATE_CONTROL) {
            let mut parts = list::split(member, b';');
            let directive = parts.next().unwrap_or_default().to_ascii_lowercase();
            let device = parts.next();
            if device.is_some() != for_us || device.is_some_and(|device| !device.eq_ignore_ascii_case(DEVICE)) {
                continue;
            }
            // This cache is far from the origin: what only a near one may store, it may not.
            if directive == b"no-store" || directive == b"no-store-remote" {
                (control.no_store, counts) = (true, true);
            } else if let Some(times) = directive.strip_prefix(b"max-age=") {
                let mut times = times.split(|byte| *byte == b'+').map(|time| Argument::text(time).seconds());
                if let Some(Some(fresh)) = times.next() {
                    counts = true;
                    set_once(&mut control.max_age, Some(fresh));
                    set_once(&mut control.stale_while_revalidate, times.next().flatten());
                }
            }
        }
    }
    counts.then_some(control)
}

/// Text is only ever a list of field names here: seconds must be an Integer (RFC 9213 section 2.1).
fn field_names(name: &str, text: &str) -> Argument {
    match name {
        "no-cache" | "private" => Argument::Text(text.to_owned()),
        _ => Argument::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn control(value: &str) -> Control {
        Control::of_response(&headers(&[("cache-control", value)]))
    }

    fn seconds(value: &str) -> Option<u64> {
        control(value).max_age.map(|age| age.as_secs())
    }

    #[test]
    fn seconds_are_digits_and_everything_else_is_stale() {
        assert_eq!(seconds("max-age=60"), Some(60));
        assert_eq!(seconds("MAX-AGE=0060"), Some(60));
        assert_eq!(seconds("max-age=\"60\""), Some(60));
        assert_eq!(seconds("max-age=99999999999999999999999"), Some(DELTA_MAX));
        for bad in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1.5",
            "max-age='60'",
            "max-age= 60",
            "max-age =60",
            "max-age=60s",
        ] {
            assert_eq!(seconds(bad), Some(0), "{bad}");
        }
        assert_eq!(seconds("x-max-age=60"), None);
        assert_eq!(seconds("x=\"max-age=60\""), None);
    }

    #[test]
    fn the_first_of_two_durations_counts() {
        assert_eq!(seconds("max-age=1, max-age=60"), Some(1));
        let two_lines = headers(&[("cache-control", "max-age=60"), ("cache-control", "max-age=1")]);
        assert_eq!(Control::of_response(&two_lines).max_age, Some(Duration::from_secs(60)));
    }

    #[test]
    fn field_names_qualify_and_nonsense_covers_everything() {
        let control = control("private=\"set-cookie, X-A\", no-cache=\"x-b\"");
        let withheld: Vec<_> = control.withheld().map(HeaderName::as_str).collect();
        assert_eq!(withheld, ["set-cookie", "x-a", "x-b"]);
        for whole in ["private", "private=\"\"", "private=\"a b\"", "private=\"x\", private", "private, private=x"] {
            assert_eq!(super::tests::control(whole).private, Scope::Whole, "{whole}");
        }
    }

    #[test]
    fn the_first_well_formed_target_decides_alone() {
        let mut lines = vec![("cache-control", "no-store"), ("cdn-cache-control", "max-age=60;x=1, public=?0")];
        let control = Control::of_response(&headers(&lines));
        assert!(control.targeted && !control.no_store && !control.public);
        assert_eq!(control.max_age, Some(Duration::from_secs(60)));
        lines.push(("skerry-cdn-cache-control", "max-age=5, private=\"x-a\""));
        let control = Control::of_response(&headers(&lines));
        assert_eq!(control.max_age, Some(Duration::from_secs(5)));
        assert_eq!(control.private, Scope::Fields(vec![HeaderName::from_static("x-a")]));
    }

    #[test]
    fn a_malformed_or_empty_target_is_as_if_it_were_not_there() {
        for bad in ["", "max-age=", "Max-Age=60", "max-age=60,", "&"] {
            let control = Control::of_response(&headers(&[("cache-control", "max-age=7"), ("cdn-cache-control", bad)]));
            assert_eq!(control.max_age, Some(Duration::from_secs(7)), "{bad}");
            assert!(!control.targeted);
        }
        let control = Control::of_response(&headers(&[("cdn-cache-control", "max-age=\"60\"")]));
        assert_eq!(control.max_age, Some(Duration::ZERO), "seconds are an Integer, not a String");
    }

    #[test]
    fn surrogate_control_counts_before_cache_control_and_behind_targeted_fields() {
        let of = |value: &str| {
            let control =
                Control::of_response(&headers(&[("cache-control", "max-age=7"), ("surrogate-control", value)]));
            (control.no_store, control.max_age.map(|age| age.as_secs()))
        };
        for (value, expect) in [
            ("max-age=60", (false, Some(60))),
            ("foo, MAX-age=60;Skerry", (false, Some(60))),
            ("max-age=60, max-age=90;skerry", (false, Some(90))),
            ("max-age=60;another", (false, Some(7))),
            ("no-store", (true, None)),
            ("no-store-remote", (true, None)),
            ("content=\"ESI/1.0\"", (false, Some(7))),
            ("max-age", (false, Some(7))),
            ("max-age=x", (false, Some(7))),
            ("", (false, Some(7))),
        ] {
            assert_eq!(of(value), expect, "{value}");
        }
        let stale = Control::of_response(&headers(&[("surrogate-control", "max-age=60+30")]));
        assert_eq!(stale.stale_while_revalidate, Some(Duration::from_secs(30)));
        let both = headers(&[("surrogate-control", "no-store"), ("cdn-cache-control", "max-age=5")]);
        assert_eq!(Control::of_response(&both).max_age, Some(Duration::from_secs(5)));
    }

    proptest! {
        #[test]
        fn nothing_that_a_header_can_hold_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                for name in ["cache-control", "cdn-cache-control", "surrogate-control"] {
                    let mut map = HeaderMap::new();
                    map.insert(HeaderName::from_static(name), value.clone());
                    let _ = Control::of_response(&map);
                }
            }
        }

        #[test]
        fn no_directive_behind_or_before_can_hide_no_store(before in "[a-z=\", \\\\]{0,20}", after in "[a-z=\", ]{0,20}") {
            // Only a closed quoted string may swallow it, and then it is text.
            let quoted = before.contains('"');
            if !quoted {
                let value = format!("{before}, no-store, {after}");
                prop_assert!(control(&value).no_store, "{}", value);
            }
        }
    }
}
