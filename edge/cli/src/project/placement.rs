//! Where a function runs, and what it has in a region.

use std::collections::BTreeMap;

use origin::bundle::Placement;

use super::document::Node;
use super::fields::{Field, Findings};
use super::limits;

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

/// What a function declares for region nodes: its limits there.
pub(super) fn region(
    findings: &mut Findings<'_>,
    field: &Field<'_>,
    placement: Option<Placement>,
) -> BTreeMap<String, u64> {
    let Some(mut fields) = findings.table(field) else { return BTreeMap::new() };
    let limits =
        fields.required(findings, "limits", "it holds the limits on region nodes, as \"limits\" does for PoPs");
    fields.finish(findings, &[]);
    if placement == Some(Placement::Edge) {
        let help = "remove \"region\", or set \"placement\" to \"auto\" or \"region\"";
        findings.error(
            &field.path,
            field.key_span.clone(),
            "a function with the placement \"edge\" is never in a region",
            help,
        );
    }
    limits.map(|limits| limits::in_region(findings, &limits)).unwrap_or_default()
}
