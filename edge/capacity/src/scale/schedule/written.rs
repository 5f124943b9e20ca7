//! An entry as it is written: flat, so that whoever writes it need not know of the two kinds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Cron, LocalTime, Offset, When};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<LocalTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<LocalTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cron: Option<Cron>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lasts: Option<Span>,
    #[serde(default)]
    offset: Offset,
    #[serde(default, with = "crate::span")]
    lead: Duration,
    least: u32,
}

#[derive(Serialize, Deserialize)]
struct Span(#[serde(with = "crate::span")] Duration);

impl TryFrom<Entry> for super::Entry {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        let Entry { name, from, until, cron, lasts, offset, lead, least } = entry;
        let when = match (from, until, cron, lasts) {
            (Some(from), Some(until), None, None) => When::Between { from, until },
            (None, None, Some(cron), Some(Span(lasts))) => When::Repeated { cron, lasts },
            _ => return Err(format!("schedule `{name}` needs either `from` and `until`, or `cron` and `lasts`")),
        };
        Ok(Self { name, when, offset, lead, least })
    }
}

impl From<super::Entry> for Entry {
    fn from(entry: super::Entry) -> Self {
        let super::Entry { name, when, offset, lead, least } = entry;
        let (from, until, cron, lasts) = match when {
            When::Between { from, until } => (Some(from), Some(until), None, None),
            When::Repeated { cron, lasts } => (None, None, Some(cron), Some(Span(lasts))),
        };
        Self { name, from, until, cron, lasts, offset, lead, least }
    }
}
