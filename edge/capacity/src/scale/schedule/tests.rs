use proptest::prelude::*;

use super::*;

/// Friday, 2026-11-27 00:00 UTC.
const FRIDAY: u64 = 1_795_737_600;

fn at(hour: f64) -> Moment {
    Moment::after_epoch(Duration::from_secs(FRIDAY) + Duration::from_secs_f64(hour * 3600.0))
}

fn entry(text: &str) -> Entry {
    toml::from_str(text).unwrap()
}

#[test]
fn a_sale_begins_earlier_by_its_lead_and_ends_on_time() {
    let sale = entry("name = 'sale'\nfrom = '2026-11-27T08:00'\nuntil = '2026-11-27T20:00'\nlead = '30m'\nleast = 40");
    for (hour, holds) in [(7.4, false), (7.5, true), (12.0, true), (19.9, true), (20.0, false)] {
        assert_eq!(sale.holds(at(hour)), holds, "{hour}");
    }
    let there =
        entry("name = 'sale'\nfrom = '2026-11-27T08:00'\nuntil = '2026-11-27T20:00'\noffset = '-05:00'\nleast = 40");
    for (hour, holds) in [(12.9, false), (13.0, true), (24.9, true), (25.0, false)] {
        assert_eq!(there.holds(at(hour)), holds, "{hour}");
    }
}

#[test]
fn business_hours_come_again_on_weekdays() {
    let hours = entry("name = 'day'\ncron = '0 8 * * 1-5'\nlasts = '10h'\noffset = '+01:00'\nlead = '5m'\nleast = 10");
    for (hour, holds) in
        [(6.9, false), (6.92, true), (7.0, true), (16.9, true), (17.0, false), (24.0 + 8.0, false), (72.0 + 8.0, true)]
    {
        assert_eq!(hours.holds(at(hour)), holds, "{hour}");
    }
    let batch = entry("name = 'batch'\ncron = '0 2 * * *'\nlasts = '45m'\nleast = 64");
    assert!(batch.holds(at(2.7)) && !batch.holds(at(2.75)));
    assert_eq!(most(&[hours.clone(), batch], at(2.5)).unwrap().name, "batch");
    assert_eq!(most(&[hours], at(2.5)), None);
}

#[test]
fn cron_reads_lists_ranges_steps_and_either_day() {
    let matches = |text: &str, hour: f64| Cron::parse(text).unwrap().matches(Offset::default().local(at(hour)));
    assert!(matches("*/15 * * * *", 0.25) && !matches("*/15 * * * *", 0.2));
    assert!(matches("0 1,3-5 * 11 *", 4.0) && !matches("0 1,3-5 * 11 *", 2.0));
    assert!(matches("0 9-17/4 * * 5", 13.0) && !matches("0 9-17/4 * * 5", 14.0));
    // crontab(5): with both days restricted, either counts.
    assert!(
        matches("0 0 1 * 5", 0.0)
            && matches("0 0 27 * 1", 0.0)
            && !matches("0 0 1 * 1", 0.0)
            && !matches("0 0 1 * *", 0.0)
    );
    assert!(matches("0 0 * * 7", 48.0) && matches("0 0 * * 0", 48.0), "Sunday has two numbers");
    for (wrong, says) in [
        ("0 8 * *", "five fields"),
        ("60 8 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day of the month"),
        ("0 0 * 5-3 *", "month"),
        ("*/0 * * * *", "minute"),
        ("a * * * *", "minute"),
    ] {
        assert!(Cron::parse(wrong).unwrap_err().contains(says), "{wrong}");
    }
}

#[test]
fn errors_of_configuration_say_what_to_write() {
    let error = |text: &str| toml::from_str::<Entry>(text).unwrap_err().to_string();
    assert!(
        error("name = 'x'\nleast = 1\ncron = '0 8 * * *'\nlasts = '1h'\noffset = '2'").contains("write it like"),
        "offset"
    );
    assert!(
        error("name = 'x'\nleast = 1\ncron = '0 8 * * *'")
            .contains("needs either `from` and `until`, or `cron` and `lasts`")
    );
    assert!(error("name = 'x'\nleast = 1\nlast = '1h'").contains("unknown field `last`"));
    let wrong = entry("name = 'x'\nleast = 1\nfrom = '2026-11-27T08:00'\nuntil = '2026-11-27T07:00'\nlead = '48h'");
    let keys: Vec<_> = validate(&[wrong]).unwrap_err().0.into_iter().map(|e| e.key).collect();
    assert_eq!(keys, ["schedule[0].lead", "schedule[0].until"]);
    for wrong in ["2026-02-29T08:00", "2026-13-01T08:00", "2026-11-27T24:00", "27.11.2026 08:00", "2026-11-27"] {
        assert!(
            toml::from_str::<Entry>(&format!("name = 'x'\nleast = 1\nfrom = '{wrong}'\nuntil = '2027-01-01T00:00'"))
                .is_err(),
            "{wrong}"
        );
    }
}

proptest! {
    #[test]
    fn days_and_dates_are_inverse(seconds in 0_u64..10_000_000_000) {
        let time = Offset::default().local(Moment::from_secs(seconds));
        let text = toml::Value::try_from(time).unwrap().as_str().unwrap().to_owned();
        prop_assert_eq!(toml::Value::String(text).try_into::<LocalTime>().unwrap(), time);
    }

    #[test]
    fn any_clock_is_borne(seconds in any::<u64>(), minutes in -840_i64..840) {
        let sign = if minutes < 0 { '-' } else { '+' };
        let offset = format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
        let entry = entry(&format!("name = 'x'\ncron = '0 8 * * 1'\nlasts = '10m'\noffset = '{offset}'\nleast = 1"));
        entry.holds(Moment::from_secs(seconds));
    }
}
