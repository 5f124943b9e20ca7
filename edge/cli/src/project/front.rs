//! `cache`: the cache in front of the function, or of one of its routes.

use origin::bundle::{CohortBinding, FrontCache, KeyPart};

use super::document::Node;
use super::fields::{Field, Findings};

/// Reads `{ "enabled": true, "cross_version": false, "key": [...] }`. The inner `None` means that it is switched off.
pub(super) fn cache(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Option<FrontCache>> {
    let mut fields = findings.table(field)?;
    let help = "true puts the cache in front of the function, false takes it away";
    let enabled = fields.required(findings, "enabled", help).and_then(|field| boolean(findings, &field));
    let cross_version = ["cross_version", "cross_version_cache"].into_iter().find_map(|key| fields.get(key));
    let cross_version = cross_version.and_then(|field| boolean(findings, &field)).unwrap_or_default();
    let key = fields.get("key").map(|field| key(findings, &field)).unwrap_or_default();
    fields.finish(findings, &[]);
    Some(enabled?.then_some(FrontCache { cross_version, key }))
}

fn boolean(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<bool> {
    if let Node::Bool(value) = field.value.node {
        return Some(value);
    }
    findings.expected(field, "true or false");
    None
}

fn key(findings: &mut Findings<'_>, field: &Field<'_>) -> Vec<KeyPart> {
    let mut parts = Vec::new();
    for item in findings.array(field) {
        let Some(text) = findings.string(&item) else { continue };
        match text.parse() {
            Ok(part) if parts.contains(&part) => findings.wrong(&item, format!("{text:?} is there twice"), "keep one"),
            Ok(part) => parts.push(part),
            Err(error) => findings.wrong(&item, error, ""),
        }
    }
    parts
}

/// Notes the cohorts in a key that no binding has.
pub(super) fn check_cohorts(
    findings: &mut Findings<'_>,
    field: &Field<'_>,
    cache: &FrontCache,
    bound: &[CohortBinding],
) {
    for part in &cache.key {
        if let KeyPart::Cohort(name) = part
            && !bound.iter().any(|binding| binding.name == *name)
        {
            let message = format!("there is no cohort binding {name:?}");
            findings.wrong(field, message, "\"cohort:NAME\" names an entry of \"cohorts\"");
        }
    }
}
