//! Days (UTC), which name what was used in them.

use std::fmt;
use std::str::FromStr;

const DAY_MS: u64 = 86_400_000;

/// A day since the Unix epoch, by its number. Shown as `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u64);

impl Day {
    /// The last day that has a name: in four digits there is no later year.
    const LAST: u64 = 2_932_896;

    /// The day of an instant in milliseconds since the Unix epoch.
    pub(super) fn of_ms(ms: u64) -> Self {
        Self((ms / DAY_MS).min(Self::LAST))
    }

    pub(super) fn after(self, days: u64) -> Self {
        Self(self.0.saturating_add(days).min(Self::LAST))
    }

    pub(super) fn before(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// Its month, `YYYY-MM`.
    pub(super) fn month(self) -> String {
        let (year, month, _) = self.civil();
        format!("{year:04}-{month:02}")
    }

    /// The first day after its month.
    pub(super) fn next_month(self) -> Self {
        let (_, _, day) = self.civil();
        // The 32nd day of any month is one of the next, from whose number its first follows.
        let next = self.after(32 - day);
        let (_, _, day) = next.civil();
        next.before(day - 1)
    }

    /// Year, month and day: Howard Hinnant's "civil from days", with years that begin in March.
    const fn civil(self) -> (u64, u64, u64) {
        let days = self.0 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        (year_of_era + era * 400 + carry, month, day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no day: write YYYY-MM-DD");
        let at = days_of(text).ok_or_else(wrong)?;
        let day = Self(at);
        // 30 February would be another day.
        if day.to_string() == text { Ok(day) } else { Err(wrong()) }
    }
}

/// Days since the epoch, if the text is three numbers.
fn days_of(text: &str) -> Option<u64> {
    let mut parts = text.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let of_era = year % 400;
    (year / 400 * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_as_they_are_written_and_months_follow_each_other() {
        for number in (0..40_000).chain([Day::LAST - 1, Day::LAST]) {
            let day = Day(number);
            assert_eq!(day.to_string().parse(), Ok(day));
            let next = day.next_month();
            assert!(next > day || number + 32 > Day::LAST, "{day} {next}");
            if number < 40_000 {
                assert!(next.to_string().ends_with("-01") && next.before(1).month() == day.month(), "{day} {next}");
            }
        }
        assert_eq!(Day::of_ms(1_795_737_600_000).to_string(), "2026-11-27");
        assert_eq!(Day::of_ms(u64::MAX).to_string(), "9999-12-31");
        for text in ["", "2026-02-30", "2026-13-01", "2026-1-01", "+2026-11-27", "2026-11-27-01", "1969-12-31"] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }
}
