//! `skerry limits`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use isolate::limits::{Broken, Limit, PROFILES, Profile, Row, TABLE, Unit};
use serde_json::{Value, json};

use crate::output::{self, Failure};
use crate::project::{Project, shown};
use crate::table::{Align, Table};

/// Show the limits of functions: the defaults, those of a profile, or those of one function
///
/// A project file sets single ones under "limits", and all of a platform with "limits": { "profile": "NAME" }.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Limits {
    /// A function's folder: the limits that its project file gives it
    #[arg(conflicts_with = "profile")]
    folder: Option<PathBuf>,
    /// The limits of this profile
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PROFILES.map(|profile| profile.name)))]
    profile: Option<String>,
    /// Print them as JSON, with all profiles
    #[arg(long)]
    json: bool,
}

impl Limits {
    /// Prints the table.
    ///
    /// # Errors
    /// When the folder holds no sound project file.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let profile = self.profile.as_deref().and_then(Profile::named);
        let project = self.folder.as_deref().map(Project::load).transpose()?;
        let given = |row: &Row| match (&project, profile) {
            (Some(project), _) => {
                let asked = project.config.limits.get(row.key).copied();
                asked.map_or(row.default, |value| value.clamp(row.min, row.max))
            }
            (None, Some(profile)) => profile.given(row.limit),
            (None, None) => row.default,
        };
        if self.json {
            return output::json(&json!({
                "limits": TABLE.iter().map(|row| described(row, given(row))).collect::<Vec<_>>(),
                "profiles": PROFILES.iter().map(profile_json).collect::<Vec<_>>(),
            }));
        }
        let mut text = table(given);
        match profile {
            Some(profile) => text.push_str(&notes(profile)),
            None if project.is_none() => text.push_str(&profiles()),
            None => {}
        }
        output::print(text)
    }
}

fn table(given: impl Fn(&Row) -> u64) -> String {
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("LIMIT", left),
        ("VALUE", right),
        ("LEAST", right),
        ("MOST", right),
        ("WHEN BROKEN", left),
        ("COUNTS", left),
    ]);
    for row in &TABLE {
        let values = [given(row), row.min, row.max].map(|value| shown(value, row.unit));
        let [value, least, most] = values;
        table.row([row.key.to_owned(), value, least, most, broken(row), row.doc.to_owned()]);
    }
    table.to_string()
}

/// What happens when the limit is broken, in a few words.
fn broken(row: &Row) -> String {
    match row.broken {
        Broken::Fails(status) => format!("{status} {}", row.code),
        Broken::Waits => "the next one waits".to_owned(),
        Broken::GivenUp => "given up and logged".to_owned(),
        Broken::CutOff => "cut off and logged".to_owned(),
    }
}

/// All profiles, side by side with what differs from the defaults.
fn profiles() -> String {
    let mut text = String::from("\nPROFILES\n");
    for profile in &PROFILES {
        let values = profile.values.iter().map(|(limit, _)| {
            let row = limit.row();
            format!("{} {}", row.key, shown(profile.asked(*limit), row.unit))
        });
        text.push_str(&format!("{}: {}\n", profile.name, values.collect::<Vec<_>>().join(", ")));
    }
    text.push_str("\n`skerry limits --profile NAME` shows one, its source and how it differs from the platform.\n");
    text
}

fn notes(profile: &Profile) -> String {
    let mut text = String::new();
    for row in profile.beyond() {
        let (asked, given) = (profile.asked(row.limit), profile.given(row.limit));
        text.push_str(&format!(
            "\n{} is {} there; a PoP gives {}.",
            row.key,
            shown(asked, row.unit),
            shown(given, row.unit)
        ));
    }
    if profile.region {
        text.push_str(
            "\nMeant for a region node (`skerry region`): in a fleet without one, the function has what a PoP gives.",
        );
    }
    format!("{text}\nHow it differs: {}.\nSource: {}\n", profile.differs, profile.source)
}

fn described(row: &Row, value: u64) -> Value {
    let unit = match row.unit {
        Unit::Milliseconds => "milliseconds",
        Unit::Bytes => "bytes",
        Unit::Count => "count",
    };
    let (outcome, status) = match row.broken {
        Broken::Fails(status) => ("fails", Some(status)),
        Broken::Waits => ("waits", None),
        Broken::GivenUp => ("given-up", None),
        Broken::CutOff => ("cut-off", None),
    };
    json!({
        "key": row.key, "value": value, "default": row.default, "min": row.min, "max": row.max, "region_max": row.region, "unit": unit,
        "broken": outcome, "status": status, "code": row.code, "counts": row.doc,
    })
}

fn profile_json(profile: &Profile) -> Value {
    let of = |value: fn(&Profile, Limit) -> u64| {
        let values = TABLE.iter().map(|row| (row.key.to_owned(), value(profile, row.limit).into()));
        Value::Object(values.collect())
    };
    json!({
        "name": profile.name, "asked": of(Profile::asked), "given": of(Profile::given), "region": profile.region,
        "source": profile.source, "differs": profile.differs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));

    /// The table of limits as the README has it.
    fn limits_for_people() -> String {
        let mut text =
            String::from("| `limits` | Default | Least to most | When a function breaks it |\n|---|---|---|---|\n");
        for row in &TABLE {
            let [default, least, most] = [row.default, row.min, row.max].map(|value| shown(value, row.unit));
            let range = if row.is_fixed() { "fixed".to_owned() } else { format!("{least} to {most}") };
            let broken = match row.broken {
                Broken::Fails(status) => format!("{status} `{}`", row.code),
                _ => broken(row),
            };
            text.push_str(&format!("| `{}` | {default} | {range} | {broken}: {} |\n", row.key, row.doc));
        }
        text
    }

    fn profiles_for_people() -> String {
        let mut text = String::from(
            "| `limits.profile` | Processor time | Until the head | Heap | `fetch()` calls |\n|---|---|---|---|---|\n",
        );
        for profile in &PROFILES {
            let cells = [Limit::Cpu, Limit::Wall, Limit::Heap, Limit::Subrequests]
                .map(|limit| shown(profile.asked(limit), limit.row().unit))
                .join(" | ");
            text.push_str(&format!("| [`{}`]({}) | {cells} |\n", profile.name, profile.source));
        }
        text
    }

    #[test]
    fn the_readme_has_the_tables_of_the_code() {
        for table in [limits_for_people(), profiles_for_people()] {
            assert!(README.contains(&table), "the README's table is not the code's, which is:\n{table}");
        }
    }
}
