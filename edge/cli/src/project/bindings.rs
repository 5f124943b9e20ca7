//! Things a function finds on `env`: their names, rate limiters and cohorts.

use std::collections::HashMap;
use std::ops::Range;

use origin::bundle::{Cohort, CohortBinding, RateLimitBinding};

use super::fields::{Field, Fields, Findings};
use super::units;

/// Cookie that holds a client's identity when a cohort binding names none: one for all experiments.
pub const DEFAULT_COHORT_COOKIE: &str = "skerry-client";

/// Longest period of a rate limiter, in seconds: a day.
const MAX_PERIOD_SECONDS: u64 = 86_400;

/// Most cohorts of one experiment.
const MAX_COHORTS: usize = 100;

/// Largest weight of a cohort; the sum over all cohorts then fits 32 bits.
const MAX_WEIGHT: u64 = 1_000_000;

/// Names given on `env` so far, with the key that gave them.
#[derive(Default)]
pub(super) struct Names(HashMap<String, String>);

impl Names {
    /// Takes `name` for the key `path`. False, with an error, when it is no identifier or taken.
    pub(super) fn claim(&mut self, findings: &mut Findings<'_>, name: &str, path: &str, span: Range<usize>) -> bool {
        if !is_identifier(name) {
            let help = "a name on env is at most 64 letters, digits, _ and $, and does not begin with a digit";
            findings.error(path, span, format!("{name:?} is not a name a function can use"), help);
            return false;
        }
        if let Some(first) = self.0.get(name) {
            findings.error(path, span, format!("env.{name} is already given by {first}"), "names on env are unique");
            return false;
        }
        self.0.insert(name.to_owned(), path.to_owned());
        true
    }
}

/// An ASCII JavaScript identifier. `__proto__` would change the object instead of naming a property.
fn is_identifier(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$'))
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'))
        && name != "__proto__"
}

/// Reads every item of an array of bindings; an absent key is an empty array.
pub(super) fn each<T>(
    findings: &mut Findings<'_>,
    names: &mut Names,
    field: Option<Field<'_>>,
    mut read: impl FnMut(&mut Findings<'_>, &mut Names, &Field<'_>) -> Option<T>,
) -> Vec<T> {
    let items = field.map(|field| findings.array(&field)).unwrap_or_default();
    items.iter().filter_map(|item| read(findings, names, item)).collect()
}

/// The binding's name under one of `keys`, taken.
pub(super) fn name(
    findings: &mut Findings<'_>,
    names: &mut Names,
    fields: &mut Fields<'_>,
    keys: &[&'static str],
) -> Option<String> {
    let (_, field) = fields.one_of(findings, keys)?;
    let name = findings.string(&field)?;
    names.claim(findings, name, &field.path, field.value.span.clone()).then(|| name.to_owned())
}

/// `{ name, namespace_id, simple: { limit, period } }`, as in wrangler; the period may be any number of seconds.
pub(super) fn ratelimit(findings: &mut Findings<'_>, names: &mut Names, field: &Field<'_>) -> Option<RateLimitBinding> {
    let mut fields = findings.table(field)?;
    let name = name(findings, names, &mut fields, &["name", "binding"]);
    let namespace_id = match fields.get("namespace_id") {
        Some(field) => namespace(findings, &field),
        None => Some(String::new()),
    };
    let simple = fields.required(findings, "simple", "write \"simple\": { \"limit\": 100, \"period\": 60 }");
    fields.finish(findings, &["type"]);
    let mut simple = findings.table(&simple?)?;
    let limit = simple
        .required(findings, "limit", "it is the number of requests allowed in each period")
        .and_then(|field| findings.integer(&field, 1..=u64::from(u32::MAX)));
    let period = simple
        .required(findings, "period", "it is the length of the period in seconds")
        .and_then(|field| units::seconds(findings, &field, 1..=MAX_PERIOD_SECONDS));
    simple.finish(findings, &[]);
    Some(RateLimitBinding {
        name: name?,
        namespace_id: namespace_id?,
        limit: u32::try_from(limit?).ok()?,
        period_seconds: u32::try_from(period?).ok()?,
    })
}

/// A namespace: wrangler's is a whole number as text; any short text does here.
fn namespace(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let text = match &field.value.node {
        super::document::Node::Number(number) => number.to_string(),
        _ => findings.string(field)?.to_owned(),
    };
    if text.len() > 64 {
        findings.wrong(field, "a namespace has at most 64 bytes", "");
        return None;
    }
    Some(text)
}

/// `{ binding, experiment, cohorts: { control: 50, treatment: 50 }, cookie }`.
pub(super) fn cohorts(findings: &mut Findings<'_>, names: &mut Names, field: &Field<'_>) -> Option<CohortBinding> {
    let mut fields = findings.table(field)?;
    let name = name(findings, names, &mut fields, &["binding"]);
    let experiment = fields
        .required(findings, "experiment", "two experiments with different names divide clients independently")
        .and_then(|field| short_text(findings, &field));
    let cohorts = fields
        .required(findings, "cohorts", "for instance { \"control\": 50, \"treatment\": 50 }")
        .and_then(|field| weights(findings, &field));
    let cookie = match fields.get("cookie") {
        Some(field) => cookie_name(findings, &field),
        None => Some(DEFAULT_COHORT_COOKIE.to_owned()),
    };
    fields.finish(findings, &[]);
    Some(CohortBinding { name: name?, experiment: experiment?, cohorts: cohorts?, cookie: cookie? })
}

fn weights(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Vec<Cohort>> {
    let before = findings.count();
    let entries = findings.table(field)?.named();
    if entries.len() > MAX_COHORTS {
        findings.wrong(field, format!("an experiment has at most {MAX_COHORTS} cohorts"), "");
    }
    let mut cohorts = Vec::new();
    for (name, entry) in entries {
        if name.is_empty() || name.len() > 64 || name.contains(char::is_control) {
            let message = "the name of a cohort has 1 to 64 bytes and no control characters";
            findings.error(&entry.path, entry.key_span.clone(), message, "");
        }
        let weight = findings.integer(&entry, 0..=MAX_WEIGHT).and_then(|weight| u32::try_from(weight).ok());
        cohorts.extend(weight.map(|weight| Cohort { name: name.to_owned(), weight }));
    }
    if findings.count() > before {
        return None;
    }
    if cohorts.iter().all(|cohort| cohort.weight == 0) {
        findings.wrong(field, "no cohort has a weight above 0", "for instance { \"control\": 50, \"treatment\": 50 }");
        return None;
    }
    Some(cohorts)
}

fn short_text(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let text = findings.string(field)?;
    if text.len() > 128 {
        findings.wrong(field, "the text has more than 128 bytes", "");
        return None;
    }
    Some(text.to_owned())
}

/// A cookie's name is a token (RFC 6265, section 4.1.1).
fn cookie_name(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let name = short_text(findings, field)?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
        findings.wrong(field, format!("{name:?} is not the name of a cookie"), "use letters, digits, - and _");
        return None;
    }
    Some(name)
}
