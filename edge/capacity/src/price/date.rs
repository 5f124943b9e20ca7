use std::fmt;
use std::str::FromStr;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The day, if there is one.
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return None,
        };
        (1..=days).contains(&day).then_some(Self { year, month, day })
    }

    /// The day (UTC) of an instant in seconds since the Unix epoch.
    #[must_use]
    pub fn from_unix_seconds(seconds: u64) -> Self {
        // Howard Hinnant's "civil from days": years begin in March, so that the leap day is the last.
        let days = i64::try_from(seconds / 86_400).unwrap_or(0) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let small = |value: i64| u8::try_from(value).unwrap_or(1);
        Self {
            year: u16::try_from(year_of_era + era * 400 + carry).unwrap_or(u16::MAX),
            month: small(month),
            day: small(day),
        }
    }

    /// Days from `earlier` to this day; negative when `earlier` is later.
    #[must_use]
    pub fn days_since(self, earlier: Self) -> i64 {
        self.days() - earlier.days()
    }

    /// The first day of this day's month.
    #[must_use]
    pub const fn month_start(self) -> Self {
        Self { day: 1, ..self }
    }

    /// Days of this day's month.
    #[must_use]
    pub fn month_days(self) -> u8 {
        (28..=31).rev().find(|day| Self::new(self.year, self.month, *day).is_some()).unwrap_or(28)
    }

    fn days(self) -> i64 {
        let (month, year) = (i64::from(self.month), i64::from(self.year) - i64::from(self.month <= 2));
        let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(self.day) - 1;
        let of_era = year.rem_euclid(400);
        year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }
}

impl FromStr for Date {
    type Err = String;

    /// Reads `YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |range: std::ops::Range<usize>| {
            let part = text.get(range)?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
        };
        let shaped = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
        let date = (number(0..4), number(5..7), number(8..10));
        let date = match date {
            (Some(year), Some(month), Some(day)) if shaped => u8::try_from(month)
                .ok()
                .zip(u8::try_from(day).ok())
                .and_then(|(month, day)| Self::new(year, month, day)),
            _ => None,
        };
        date.ok_or_else(|| format!("{text:?} is no day: write YYYY-MM-DD"))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar_and_seconds_of_the_epoch_agree() {
        let epoch = Date::new(1970, 1, 1).unwrap();
        for days in (0..60_000).step_by(13).chain(0..800) {
            let date = Date::from_unix_seconds(days * 86_400 + 5);
            assert_eq!(date.days_since(epoch), i64::try_from(days).unwrap(), "{date}");
            assert_eq!(Date::new(date.year, date.month, date.day), Some(date));
        }
        assert_eq!(Date::from_unix_seconds(1_795_737_600).to_string(), "2026-11-27");
        assert_eq!("2026-11-27".parse(), Ok(Date::from_unix_seconds(1_795_737_600)));
        for text in ["", "2026-1-01", "2026-02-30", "2026-11-2x", "+026-11-27", "2026-11-277", "二〇二六-1-1"] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
        let days = |text: &str| text.parse::<Date>().map(Date::month_days);
        assert_eq!(
            [days("2026-02-14"), days("2028-02-14"), days("2026-11-01"), days("2026-12-31")],
            [28, 29, 30, 31].map(Ok)
        );
        assert_eq!(Date::new(2023, 2, 29), None);
        assert_eq!(Date::new(2023, 13, 1), None);
    }
}
