//! The parts of a log line: its time, and what it tells as `key=value`.

/// The time at the beginning of a line (RFC 3339, in UTC), in seconds since the Unix epoch, and what follows it.
pub(super) fn time(line: &str) -> Option<(f64, &str)> {
    let (text, rest) = line.split_once('Z')?;
    let (date, clock) = text.split_once('T')?;
    let numbers = |text: &str, by: char| -> Option<[u32; 3]> {
        let mut parts = text.split(by).map(|part| part.parse::<u32>().ok());
        let three = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(three)
    };
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let sound = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !sound || hour > 23 || minute > 59 || second > 60 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    let seconds = hour * 3600 + minute * 60 + second;
    Some((days(year, month, day) * 86_400.0 + f64::from(seconds) + fraction, rest))
}

/// Days since the Unix epoch (Hinnant, `days_from_civil`): years begin in March, so that a leap day ends one.
fn days(year: u32, month: u32, day: u32) -> f64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leaps = year / 4 - year / 100 + year / 400;
    f64::from(year) * 365.0 + f64::from(leaps) + f64::from(of_year) - 719_468.0
}

/// What a line tells, in order. A value in quotes is given without them, and as it is escaped.
pub(super) fn fields(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            let (before, after) = rest.split_once('=')?;
            let key = before.rsplit(' ').next().unwrap_or(before);
            let (value, left) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let end = closing(quoted)?;
                    (&quoted[..end], &quoted[end + 1..])
                }
                None => after.split_once(' ').unwrap_or((after, "")),
            };
            rest = left;
            if !key.is_empty() {
                return Some((key, value));
            }
        }
    })
}

/// Where a quoted value ends.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_the_epoch() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0.0),
            ("2000-02-29T12:00:00.5Z", 951_825_600.5),
            ("2026-11-27T12:41:11.2Z x", 1_795_783_271.2),
        ] {
            assert!((time(text).unwrap().0 - seconds).abs() < 1e-6, "{text}: {:?}", time(text));
        }
        for wrong in ["", "2026-13-01T00:00:00Z", "2026-11-27 12:41:11Z", "T-Z", "1969-12-31T00:00:00Z"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn quoted_values_hide_what_is_in_them() {
        let found: Vec<_> = fields(r#"so it is: a=1 path="/x=\" y=2" z=3"#).collect();
        assert_eq!(found, [("a", "1"), ("path", r#"/x=\" y=2"#), ("z", "3")]);
    }
}
