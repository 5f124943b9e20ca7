//! The limits of a function: those of a profile, and the single ones that override it.

use std::collections::BTreeMap;

use isolate::limits::{PROFILES, Profile, Row, TABLE};
use origin::bundle::Placement;

use super::fields::{Field, Fields, Findings, nearest};
use super::units::{quantity, shown};

/// Limits that differ from the defaults, by key, each in its base unit. A single one is within its row's bounds; one of a
/// profile may be above, for a node that gives more than a PoP does.
pub(super) fn limits(
    findings: &mut Findings<'_>,
    field: &Field<'_>,
    placement: Option<Placement>,
) -> BTreeMap<String, u64> {
    let Some(mut fields) = findings.table(field) else { return BTreeMap::new() };
    let profile = fields.get("profile").and_then(|field| Some((profile(findings, &field)?, field)));
    // More than the edge has is a need that only who says where it is to run can mean.
    let beyond_edge = matches!(placement, Some(Placement::Auto | Placement::Region));
    let single = single(findings, &mut fields, |row| if beyond_edge { row.region } else { row.max });
    fields.finish(findings, &[]);
    let Some((profile, field)) = profile else { return single };
    doubt_what_is_beyond(findings, &field, profile, &single);
    let of_profile = profile.values.iter().map(|(limit, value)| (limit.row(), *value));
    let mut limits: BTreeMap<_, _> = of_profile.map(|(row, value)| (row.key.to_owned(), value.max(row.min))).collect();
    limits.extend(single);
    limits
}

/// Limits of a function on region nodes, within what such a node can give.
pub(super) fn in_region(findings: &mut Findings<'_>, field: &Field<'_>) -> BTreeMap<String, u64> {
    let Some(mut fields) = findings.table(field) else { return BTreeMap::new() };
    let limits = single(findings, &mut fields, |row| row.region);
    fields.finish(findings, &[]);
    limits
}

fn single(findings: &mut Findings<'_>, fields: &mut Fields<'_>, most: impl Fn(&Row) -> u64) -> BTreeMap<String, u64> {
    let mut single = BTreeMap::new();
    for row in &TABLE {
        let Some(field) = fields.get(row.key) else { continue };
        if let Some(value) = limit(findings, &field, row, most(row)) {
            single.insert(row.key.to_owned(), value);
        }
    }
    single
}

fn profile(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<&'static Profile> {
    let text = findings.string(field)?;
    let found = Profile::named(text);
    if found.is_none() {
        let names = PROFILES.map(|profile| profile.name);
        let help = match nearest(text, &names) {
            Some((name, true)) => format!("did you mean {name:?}?"),
            _ => format!("the profiles are {}", names.join(", ")),
        };
        findings.wrong(field, format!("there is no profile {text:?}"), help);
    }
    found
}

/// Says which values of a profile a PoP cannot give, unless a single limit takes their place.
fn doubt_what_is_beyond(
    findings: &mut Findings<'_>,
    field: &Field<'_>,
    profile: &Profile,
    single: &BTreeMap<String, u64>,
) {
    let beyond = profile.beyond().filter(|row| !single.contains_key(row.key));
    let beyond: Vec<_> = beyond
        .map(|row| {
            let (asked, given) = (profile.asked(row.limit), profile.given(row.limit));
            format!("{} {} instead of {}", row.key, shown(given, row.unit), shown(asked, row.unit))
        })
        .collect();
    if beyond.is_empty() && !profile.region {
        return;
    }
    let message = if profile.region {
        format!(
            "the profile {:?} needs a region node: in a fleet without one, the function has what a PoP gives",
            profile.name
        )
    } else {
        format!("a PoP cannot give all that the profile {:?} names", profile.name)
    };
    let help = if beyond.is_empty() {
        "a PoP gives all that it names".to_owned()
    } else {
        format!("there it has {}", beyond.join(", "))
    };
    findings.doubt(&field.path, field.value.span.clone(), message, help);
}

fn limit(findings: &mut Findings<'_>, field: &Field<'_>, row: &Row, most: u64) -> Option<u64> {
    let value = quantity(findings, field, row.unit)?;
    if (row.min..=most).contains(&value) {
        return Some(value);
    }
    let (least, most) = (shown(row.min, row.unit), shown(most, row.unit));
    let counts = format!("it limits the {}", row.doc);
    if row.is_fixed() {
        findings.wrong(field, format!("this is {most} for every function and cannot be changed"), counts);
    } else if value == 0 {
        let message = format!("a limit of 0 leaves no {}", row.doc);
        findings.wrong(field, message, "remove the key to have the default");
    } else if value < row.min {
        findings.wrong(field, format!("the least that works is {least}"), counts);
    } else {
        let in_region =
            || "a region node gives more: with \"placement\": \"region\" or \"auto\" it is asked for".to_owned();
        let help = if value <= row.region { in_region() } else { counts };
        findings.wrong(field, format!("the most that can be asked for is {most}"), help);
    }
    None
}
