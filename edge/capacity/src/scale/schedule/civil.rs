//! Times of day on a calendar, without a time zone of their own.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::Moment;

/// A difference from UTC, in minutes; east is positive. At most 14 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(i32);

impl Offset {
    /// What clocks at this offset show.
    pub fn local(self, at: Moment) -> LocalTime {
        let seconds = i64::try_from(at.elapsed().as_secs()).unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
        LocalTime(seconds + i64::from(self.0) * 60)
    }

    fn parse(text: &str) -> Option<Self> {
        if matches!(text, "Z" | "UTC") {
            return Some(Self(0));
        }
        let (sign, rest) =
            text.strip_prefix('+').map(|rest| (1, rest)).or_else(|| text.strip_prefix('-').map(|rest| (-1, rest)))?;
        let (hours, minutes) = rest.split_once(':')?;
        let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
        (hours <= 14 && minutes < 60).then(|| Self(sign * (hours * 60 + minutes) as i32))
    }
}

/// What a clock shows: seconds since 1970 as if it were in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(pub(super) i64);

/// The parts of a time that a cron expression looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) minute: u8,
    pub(super) hour: u8,
    pub(super) day: u8,
    pub(super) month: u8,
    /// 0 is Sunday.
    pub(super) weekday: u8,
}

impl LocalTime {
    pub(super) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)))
    }

    pub(super) fn parts(self) -> Parts {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (_, month, day) = date(days);
        Parts {
            minute: (second / 60 % 60) as u8,
            hour: (second / 3600) as u8,
            day,
            month,
            // 1970 began on a Thursday.
            weekday: (days + 4).rem_euclid(7) as u8,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (day, time) = text.split_once(['T', ' '])?;
        let mut day = day.splitn(3, '-');
        let (year, month, day) = (digits(day.next()?, 4)?, digits(day.next()?, 2)?, digits(day.next()?, 2)?);
        let mut time = time.splitn(3, ':');
        let (hour, minute) = (digits(time.next()?, 2)?, digits(time.next()?, 2)?);
        let second = time.next().map_or(Some(0), |second| digits(second, 2))?;
        let days = days(year, month, day);
        let exists = (1..=12).contains(&month)
            && date(days) == (year, month as u8, day as u8)
            && hour < 24
            && minute < 60
            && second < 60;
        exists.then(|| Self(days * 86_400 + hour * 3600 + minute * 60 + second))
    }
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01, by Hinnant's algorithm: years begin in March, so that the leap day is the last of them.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + i64::from(month <= 2), month as u8, day as u8)
}

impl Serialize for Offset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sign = if self.0 < 0 { '-' } else { '+' };
        serializer.collect_str(&format_args!("{sign}{:02}:{:02}", self.0.abs() / 60, self.0.abs() % 60))
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no offset from UTC: write it like \"+02:00\"")))
    }
}

impl Serialize for LocalTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (year, month, day) = date(self.0.div_euclid(86_400));
        let second = self.0.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        serializer.collect_str(&format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
    }
}

impl<'de> Deserialize<'de> for LocalTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no time: write it like \"2026-11-27T08:00\"")))
    }
}
