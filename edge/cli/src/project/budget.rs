//! `budget`: what the function may cost.

use origin::bundle::{Brake, Budget, MAX_ALERTS, MAX_PERCENT, Period};

use super::document::Node;
use super::fields::{Field, Findings};

/// At which percents of a budget people are told when the file does not say.
const DEFAULT_ALERTS: [u32; 3] = [50, 80, 100];

/// The largest budget: more than that is no bound.
const MAX_AMOUNT: f64 = 1e9;

/// Reads `{ "amount": 5, "per": "day", "alerts": [50, 80, 100], "brake": "limit" }`.
pub(super) fn budget(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Budget> {
    let mut fields = findings.table(field)?;
    let amount = fields.required(findings, "amount", "it is in the currency of the price book, for instance 5.00");
    let amount_micros = amount.and_then(|field| amount_of(findings, &field));
    let per = fields.required(findings, "per", "write \"day\" or \"month\"");
    let per = per.and_then(|field| period(findings, &field));
    let alerts = match fields.get("alerts") {
        Some(field) => alerts(findings, &field),
        None => Some(DEFAULT_ALERTS.to_vec()),
    };
    // The inner `None` means that there is none.
    let brake = match fields.get("brake") {
        Some(field) => brake(findings, &field).map(Some),
        None => Some(None),
    };
    fields.finish(findings, &[]);
    Some(Budget { amount_micros: amount_micros?, per: per?, alerts: alerts?, brake: brake? })
}

fn amount_of(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<u64> {
    let what = "an amount of at least 0.000001 and at most 1000000000";
    let Node::Number(number) = &field.value.node else {
        findings.expected(field, what);
        return None;
    };
    match number.as_f64() {
        Some(amount) if (1e-6..=MAX_AMOUNT).contains(&amount) => Some((amount * 1e6).round() as u64),
        _ => {
            findings.wrong(field, format!("{number} is not {what}"), "");
            None
        }
    }
}

fn period(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Period> {
    match findings.string(field)? {
        "day" => Some(Period::Day),
        "month" => Some(Period::Month),
        text => {
            findings.wrong(field, format!("{text:?} is no period of a budget"), "write \"day\" or \"month\"");
            None
        }
    }
}

/// Percents, in any order.
fn alerts(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Vec<u32>> {
    let before = findings.count();
    let mut alerts: Vec<u32> = Vec::new();
    for item in findings.array(field) {
        let percent =
            findings.integer(&item, 1..=u64::from(MAX_PERCENT)).and_then(|percent| u32::try_from(percent).ok());
        match percent {
            Some(percent) if alerts.contains(&percent) => {
                findings.wrong(&item, format!("{percent} is there twice"), "keep one");
            }
            percent => alerts.extend(percent),
        }
    }
    if alerts.len() > MAX_ALERTS {
        findings.wrong(field, format!("a budget has at most {MAX_ALERTS} alerts"), "");
    }
    alerts.sort_unstable();
    (findings.count() == before).then_some(alerts)
}

fn brake(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Brake> {
    match findings.string(field)? {
        "limit" => Some(Brake::Limit),
        text => {
            let help = "write \"limit\" (requests are limited to what the last tenth of the budget pays for, and refused \
                        when it is used up), or leave it out";
            findings.wrong(field, format!("{text:?} is no brake"), help);
            None
        }
    }
}
