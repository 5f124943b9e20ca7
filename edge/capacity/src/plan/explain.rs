use std::fmt::Write as _;

use super::{ASSUMPTIONS, Kind, Plan};

pub(super) fn kinds(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

/// A whole plan in sentences, one a line.
pub(super) fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut say = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    mix(plan, &mut say);
    reasons(plan, &mut say);
    sensitivity(plan, &mut say);
    otherwise(plan, &mut say);
    text
}

fn mix(plan: &Plan, say: &mut dyn FnMut(String)) {
    let currency = &plan.currency;
    say(format!("The cheapest mix that keeps the objective costs {} {currency} a month.", plan.total()));
    for part in &plan.mix.parts {
        say(format!(
            "  {} ({}): {:.2} on average, {} {currency}, {:.0} % of the work.",
            part.kind.as_str(),
            part.name,
            part.count,
            part.monthly,
            100.0 * part.share
        ));
    }
    for (money, from) in plan.mix.egress.iter().zip(["own machines", "a region"]) {
        if money.micros() > 0 {
            say(format!("  Bytes to clients from {from}: {money} {currency}."));
        }
    }
}

/// What binds, who is refused, and where one way gets cheaper than another.
fn reasons(plan: &Plan, say: &mut dyn FnMut(String)) {
    let currency = &plan.currency;
    for it in &plan.binding {
        say(format!("It would cost {} {currency} less without this constraint: {}.", it.costs, it.constraint));
    }
    if plan.binding.is_empty() {
        say("No constraint costs anything: the objective is kept by what is cheapest anyway.".to_owned());
    }
    for it in &plan.refusals {
        say(format!("Not for \"{}\": {it}.", it.stream));
    }
    for it in &plan.crossovers {
        say(crossover(it, currency));
    }
    if let Some(it) =
        plan.crossovers.iter().find(|it| it.below == Kind::OnDemand.as_str() && it.above == Kind::Reserved1y.as_str())
        && let Some(used) = it.utilisation
    {
        say(format!(
            "The field's rule of about 70 % is this last kind of line, between reserved and on demand ({:.0} % at these prices). \
             The line to Lambda is lower: a processor of Lambda that is always busy costs a multiple, by its GB-seconds, its waiting \
             and its requests.",
            100.0 * used
        ));
    }
}

fn sensitivity(plan: &Plan, say: &mut dyn FnMut(String)) {
    let currency = &plan.currency;
    for it in &plan.sensitivity {
        let changes: Vec<_> = [&it.down, &it.up].into_iter().flatten().collect();
        for (factor, then) in &changes {
            say(format!(
                "If the price of {} were {:+.0} %, the mix would be: {}.",
                it.price,
                100.0 * (factor - 1.0),
                kinds(then)
            ));
        }
        if changes.is_empty() && it.tenth.micros() > 0 {
            say(format!(
                "From a quarter to four times the price of {}, the mix stays; 10 % more add {} {currency}.",
                it.price, it.tenth
            ));
        }
    }
}

/// Plan B, other sellers, and what to doubt.
fn otherwise(plan: &Plan, say: &mut dyn FnMut(String)) {
    let currency = &plan.currency;
    for it in &plan.fallbacks {
        let then = match &it.then {
            Ok((then, monthly)) => format!("plan B is {} for {monthly} {currency} a month", kinds(then)),
            Err(error) => format!("there is no plan B: {error}"),
        };
        say(format!(
            "If {} is lost, up to {:.0} % of an hour's capacity goes at once; {then}.",
            it.lost,
            100.0 * it.at_once
        ));
    }
    for it in &plan.comparisons {
        match &it.monthly {
            Ok(monthly) => say(format!("{}: {monthly} {currency} a month.", it.with)),
            Err(error) => say(format!(
                "{}: not possible: {}.",
                it.with,
                error.lines().map(str::trim).collect::<Vec<_>>().join(" ")
            )),
        }
    }
    for it in &plan.doubts {
        let age = it.stale_days.map_or_else(String::new, |days| format!(" It is {days} days old."));
        let unverified = if it.unverified { " Nobody has verified it." } else { "" };
        say(format!(
            "Look at the prices of source {} before you rely on them ({}).{age}{unverified}",
            it.source, it.text
        ));
    }
    for it in ASSUMPTIONS {
        say(format!("Assumed: {it}"));
    }
}

/// One crossover in a sentence.
pub(super) fn crossover(it: &super::Crossover, currency: &str) -> String {
    match it.utilisation {
        Some(used) => format!(
            "For \"{}\": {} instead of {} from {:.1} % use of a processor on ({:.2} requests a second each); one that is always busy \
             costs {:.2} against {:.2} {currency} a month.",
            it.stream,
            it.above,
            it.below,
            100.0 * used,
            it.requests_per_second,
            it.monthly[1],
            it.monthly[0]
        ),
        None => format!("For \"{}\", {} is never cheaper than {}, however busy.", it.stream, it.above, it.below),
    }
}
