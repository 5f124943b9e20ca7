//! Cron expressions, as in crontab(5): five fields.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::civil::LocalTime;

/// The fields, with their bounds.
const FIELDS: [(&str, u8, u8); 5] =
    [("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7)];

/// When something begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// A bit for each value of each field.
    sets: [u64; 5],
    /// Both fields for days are restricted: a day that either names counts.
    either_day: bool,
}

impl Cron {
    /// # Errors
    /// What is wrong with which field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let parts: [&str; 5] = parts.try_into().map_err(|_| {
            format!("`{text}` has not five fields: minute, hour, day of the month, month, day of the week, like \"0 8 * * 1-5\"")
        })?;
        let mut sets = [0; 5];
        for ((set, part), (name, low, high)) in sets.iter_mut().zip(parts).zip(FIELDS) {
            *set =
                field(part, low, high).ok_or_else(|| format!("`{part}` in `{text}` is no {name} ({low} to {high})"))?;
        }
        // Sunday is 0 and 7.
        sets[4] = (sets[4] | sets[4] >> 7) & 0x7f;
        Ok(Self { text: text.to_owned(), sets, either_day: !parts[2].starts_with('*') && !parts[4].starts_with('*') })
    }

    /// Whether it begins in this minute.
    pub(super) fn matches(&self, at: LocalTime) -> bool {
        let parts = at.parts();
        let has = |field: usize, value: u8| self.sets[field] >> value & 1 == 1;
        let (day, weekday) = (has(2, parts.day), has(4, parts.weekday));
        let on_day = if self.either_day { day || weekday } else { day && weekday };
        on_day && has(0, parts.minute) && has(1, parts.hour) && has(3, parts.month)
    }

    /// Whether it began within so long before a time.
    pub(super) fn began_within(&self, at: LocalTime, lasts: Duration) -> bool {
        let minute = at.0.div_euclid(60);
        // Validation keeps spans far below this.
        let most = i64::try_from(lasts.as_secs().min(40 * 86_400)).unwrap_or(0);
        (0..)
            .map(|back| minute - back)
            .take_while(|start| at.0 - start * 60 < most)
            .any(|start| self.matches(LocalTime(start * 60)))
    }
}

/// The set of a field: `*`, `5`, `1-5`, any of them with a step (`*/15`), and lists of these.
fn field(text: &str, low: u8, high: u8) -> Option<u64> {
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) =
            part.split_once('/').map_or((part, Some(1)), |(range, step)| (range, step.parse::<u8>().ok()));
        let step = step.filter(|step| *step > 0)?;
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => {
                let value = range.parse().ok()?;
                (value, if part.contains('/') { high } else { value })
            }
        };
        if first < low || last > high || first > last {
            return None;
        }
        (first..=last).step_by(step.into()).for_each(|value| set |= 1 << value);
    }
    Some(set)
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
