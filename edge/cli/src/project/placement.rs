//! Where a function runs, and what it has in a region.

use std::collections::BTreeMap;

use isolate::limits::Unit;
use origin::bundle::Placement;

use super::document::Node;
use super::fields::{Field, Findings};
use super::limits;
use super::units::quantity;

const HELP: &str = "write \"edge\" (on the PoPs only), \"region\" (in the region only) or \"auto\" (the default: on the PoPs, and in the \
                    region what is better off there)";

/// Ours is a word. Wrangler's is an object: its mode \"smart\" moves a function as a whole to where it is fastest, which is
/// the nearest to what `auto` does request by request; \"off\" is `edge`.
pub(super) fn placement(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Placement> {
    if matches!(field.value.node, Node::Table(_)) {
        return of_wrangler(findings, field);
    }
    let text = findings.string(field)?;
    text.parse().inspect_err(|_| findings.wrong(field, format!("{text:?} is no placement"), HELP)).ok()
}

fn of_wrangler(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Placement> {
    let mut fields = findings.table(field)?;
    let mode = fields.required(findings, "mode", HELP);
    fields.finish(findings, &["host", "hostname", "region", "hint"]);
    let mode = mode?;
    match findings.string(&mode)? {
        "smart" => Some(Placement::Auto),
        "off" => Some(Placement::Edge),
        text => {
            findings.wrong(&mode, format!("{text:?} is no mode of placement"), HELP);
            None
        }
    }
}

/// What a function declares for regions.
#[derive(Debug, Default)]
pub(super) struct Region {
    /// Its limits there, by key.
    pub(super) limits: BTreeMap<String, u64>,
    /// The latency that it has to keep when it is moved for its cost, in milliseconds.
    pub(super) objective_ms: Option<u64>,
}

pub(super) fn region(findings: &mut Findings<'_>, field: &Field<'_>, placement: Option<Placement>) -> Option<Region> {
    let mut fields = findings.table(field)?;
    let limits = fields.get("limits").map(|field| limits::in_region(findings, &field)).unwrap_or_default();
    let objective = fields.get("objective_ms");
    fields.finish(findings, &[]);
    if placement == Some(Placement::Edge) {
        let help = "remove \"region\", or set \"placement\" to \"auto\" or \"region\"";
        let message = "a function with the placement \"edge\" is never in a region";
        findings.error(&field.path, field.key_span.clone(), message, help);
    }
    let objective_ms = objective.and_then(|field| {
        let value = quantity(findings, &field, Unit::Milliseconds)?;
        if value == 0 {
            let help = "write the latency that 99 in 100 requests shall keep, for instance \"300ms\"";
            findings.wrong(&field, "an objective of 0 cannot be kept", help);
        }
        Some(value)
    });
    Some(Region { limits, objective_ms })
}
