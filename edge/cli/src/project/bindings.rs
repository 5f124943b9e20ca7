//! Things a function finds on `env`: their names, rate limiters and cohorts.

use std::collections::HashMap;
use std::ops::Range;

use middleware::cohort::{CookieName, Experiment};
use origin::bundle::{Cohort, CohortBinding, RateLimitBinding};

use super::fields::{Field, Fields, Findings};
use super::units;

/// Cookie that holds a client's identity when a cohort binding names none: one for all experiments.
const DEFAULT_COHORT_COOKIE: &str = "skerry-client";

/// Longest period of a rate limiter, in seconds: a day.
const MAX_PERIOD_SECONDS: u64 = 86_400;

/// Stands for an experiment's name where that is missing, which is an error of its own.
const UNNAMED: &str = "unnamed";

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
        .and_then(|field| experiment_name(findings, &field));
    let cohorts = fields
        .required(findings, "cohorts", "for instance { \"control\": 50, \"treatment\": 50 }")
        .and_then(|field| weights(findings, &field, experiment.as_deref().unwrap_or(UNNAMED)));
    let cookie = match fields.get("cookie") {
        Some(field) => cookie_name(findings, &field),
        None => Some(DEFAULT_COHORT_COOKIE.to_owned()),
    };
    fields.finish(findings, &[]);
    Some(CohortBinding { name: name?, experiment: experiment?, cohorts: cohorts?, cookie: cookie? })
}

fn weights(findings: &mut Findings<'_>, field: &Field<'_>, experiment: &str) -> Option<Vec<Cohort>> {
    let before = findings.count();
    let mut cohorts = Vec::new();
    for (name, entry) in findings.table(field)?.named() {
        let weight = findings.integer(&entry, 0..=u64::from(u32::MAX)).and_then(|weight| u32::try_from(weight).ok());
        cohorts.extend(weight.map(|weight| Cohort { name: name.to_owned(), weight }));
    }
    let pairs = cohorts.iter().map(|cohort| (cohort.name.clone(), cohort.weight)).collect();
    if findings.count() > before {
        return None;
    }
    if let Err(error) = Experiment::new(experiment, pairs) {
        findings.wrong(field, error.to_string(), "for instance { \"control\": 50, \"treatment\": 50 }");
        return None;
    }
    Some(cohorts)
}

fn experiment_name(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let name = findings.string(field)?;
    if let Err(error) = Experiment::new(name, vec![("all".to_owned(), 1)]) {
        findings.wrong(field, error.to_string(), "");
        return None;
    }
    Some(name.to_owned())
}

fn cookie_name(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let name = findings.string(field)?;
    if let Err(error) = CookieName::parse(name) {
        findings.wrong(field, error.to_string(), "");
        return None;
    }
    Some(name.to_owned())
}
