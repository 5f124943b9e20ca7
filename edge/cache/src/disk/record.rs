//! The head of a stored response as bytes.

use std::time::{Duration, SystemTime};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::entry::Head;
use crate::key::Key;
use crate::policy::vary::Selector;
use crate::policy::{Control, Scope};

/// Most bytes of a head that is stored on disk; a response with a larger one stays in memory.
pub(super) const MAX_RECORD: usize = 256 << 10;

/// A [`Head`], field by field. Whoever adds a field there is stopped by the compiler here, and then raises the version
/// of the format.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    uri: &'a str,
    parts: Option<&'a str>,
    status: u16,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a [u8])>,
    #[serde(borrow)]
    control: ControlRecord<'a>,
    #[serde(borrow)]
    selectors: Vec<(&'a str, Option<&'a [u8]>)>,
    /// Since 1970.
    received: Duration,
    initial_age: Duration,
    lifetime: Duration,
    length: Option<u64>,
    purged: u64,
}

#[derive(Serialize, Deserialize)]
struct ControlRecord<'a> {
    /// no_store, public, must_revalidate, proxy_revalidate, must_understand, targeted.
    flags: [bool; 6],
    #[serde(borrow)]
    no_cache: ScopeRecord<'a>,
    #[serde(borrow)]
    private: ScopeRecord<'a>,
    max_age: Option<Duration>,
    s_maxage: Option<Duration>,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
enum ScopeRecord<'a> {
    Absent,
    #[serde(borrow)]
    Fields(Vec<&'a str>),
    Whole,
}

/// The bytes of a head; `None` when they would be too many, or its time is before 1970.
pub(super) fn encode(head: &Head) -> Option<Vec<u8>> {
    let Head { status, headers, control, selectors, key, received, initial_age, lifetime, length, purged } = head;
    let record = Record {
        uri: key.uri(),
        parts: key.parts(),
        status: status.as_u16(),
        headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
        control: ControlRecord::of(control),
        selectors: selectors.iter().map(|s| (s.name.as_str(), s.value.as_deref())).collect(),
        received: received.duration_since(SystemTime::UNIX_EPOCH).ok()?,
        initial_age: *initial_age,
        lifetime: *lifetime,
        length: *length,
        purged: *purged,
    };
    postcard::to_allocvec(&record).ok().filter(|bytes| bytes.len() <= MAX_RECORD)
}

/// The head that [`encode`] made these bytes of; `None` when it did not.
pub(super) fn decode(bytes: &[u8]) -> Option<Head> {
    let (record, rest): (Record<'_>, _) = postcard::take_from_bytes(bytes).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(record.headers.len());
    for (name, value) in record.headers {
        headers.try_append(name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(value).ok()?).ok()?;
    }
    let selector = |(name, value): (&str, Option<&[u8]>)| {
        Some(Selector { name: name.parse().ok()?, value: value.map(Into::into) })
    };
    Some(Head {
        status: StatusCode::from_u16(record.status).ok()?,
        headers,
        control: record.control.read()?,
        selectors: record.selectors.into_iter().map(selector).collect::<Option<_>>()?,
        key: Key::restored(record.uri, record.parts),
        received: SystemTime::UNIX_EPOCH.checked_add(record.received)?,
        initial_age: record.initial_age,
        lifetime: record.lifetime,
        length: record.length,
        purged: record.purged,
    })
}

impl<'a> ControlRecord<'a> {
    fn of(control: &'a Control) -> Self {
        let Control {
            no_store,
            no_cache,
            private,
            public,
            must_revalidate,
            proxy_revalidate,
            must_understand,
            max_age,
            s_maxage,
            stale_while_revalidate,
            stale_if_error,
            targeted,
        } = control;
        Self {
            flags: [*no_store, *public, *must_revalidate, *proxy_revalidate, *must_understand, *targeted],
            no_cache: ScopeRecord::of(no_cache),
            private: ScopeRecord::of(private),
            max_age: *max_age,
            s_maxage: *s_maxage,
            stale_while_revalidate: *stale_while_revalidate,
            stale_if_error: *stale_if_error,
        }
    }

    fn read(self) -> Option<Control> {
        let [no_store, public, must_revalidate, proxy_revalidate, must_understand, targeted] = self.flags;
        Some(Control {
            no_store,
            no_cache: self.no_cache.read()?,
            private: self.private.read()?,
            public,
            must_revalidate,
            proxy_revalidate,
            must_understand,
            max_age: self.max_age,
            s_maxage: self.s_maxage,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            targeted,
        })
    }
}

impl<'a> ScopeRecord<'a> {
    fn of(scope: &'a Scope) -> Self {
        match scope {
            Scope::Absent => Self::Absent,
            Scope::Fields(names) => Self::Fields(names.iter().map(HeaderName::as_str).collect()),
            Scope::Whole => Self::Whole,
        }
    }

    fn read(self) -> Option<Scope> {
        Some(match self {
            Self::Absent => Scope::Absent,
            Self::Fields(names) => {
                Scope::Fields(names.into_iter().map(|name| name.parse().ok()).collect::<Option<_>>()?)
            }
            Self::Whole => Scope::Whole,
        })
    }
}
