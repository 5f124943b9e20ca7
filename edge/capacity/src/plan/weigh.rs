//! The same question with other prices, without a constraint, or without a part.

use serde::Serialize;

use super::offer::{chosen, lambda_memory_mb, lambda_request, usage_of};
use super::{Demand, Kind, Mix, PlaceKind, Question, Stream};
use crate::price::{Key, MONTH_HOURS, Money, Target};
use crate::usage::bill::{Metered, Terms, metered};

/// A constraint that costs something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Binding {
    /// The constraint.
    pub constraint: &'static str,
    /// What the mix would cost a month less without it.
    pub costs: Money,
}

/// Takes a constraint away.
type Change<'a> = &'a dyn Fn(&mut Question);

/// Which constraints bind: those without which it would be cheaper.
pub(super) fn binding(question: &Question, mix: &Mix) -> Vec<Binding> {
    let without = |constraint, change: Change<'_>| {
        let mut relaxed = question.clone();
        change(&mut relaxed);
        let cheaper = relaxed.solve().ok()?.total();
        let costs = Money::from_micros(mix.total().micros().saturating_sub(cheaper.micros()));
        (costs.micros() >= 10_000).then_some(Binding { constraint, costs })
    };
    let each = |change: fn(&mut Stream)| move |it: &mut Question| it.streams.iter_mut().for_each(change);
    let changes: [(&'static str, Change<'_>); 5] = [
        ("p99", &each(|it| it.objective.p99_ms = None)),
        ("error budget (a spare machine)", &each(|it| it.objective.error_budget = None)),
        ("residency", &each(|it| it.objective.residency.clear())),
        ("work that may not be broken off", &each(|it| it.interruptible = true)),
        ("number of own machines", &|it| it.own_machines = u32::MAX),
    ];
    changes.into_iter().filter_map(|(name, change)| without(name, change)).collect()
}

/// Where one way gets cheaper than another, as a processor is used more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Crossover {
    /// The stream whose requests it is for.
    pub stream: String,
    /// Cheaper below.
    pub below: String,
    /// Cheaper above.
    pub above: String,
    /// Share of a processor's time that is used; `None`: never, up to a processor that is always busy.
    pub utilisation: Option<f64>,
    /// Requests a second and processor at that point.
    pub requests_per_second: f64,
    /// What a processor costs a month: with the one that is cheaper below when always busy, and with the other.
    pub monthly: [f64; 2],
}

/// What a processor costs a month when it is used for a share of its time.
pub(super) fn processor_month(question: &Question, stream: &Stream, kind: Kind, used: f64) -> Option<f64> {
    let cheapest = |price: &dyn Fn(&crate::price::Instance) -> f64| {
        let fits = question.prices.instances.iter().filter(|it| it.memory_gb * 1024.0 >= stream.work.memory_mb);
        fits.map(|it| price(it) * MONTH_HOURS / f64::from(it.vcpus)).reduce(f64::min)
    };
    match kind {
        Kind::Lambda => {
            let requests = used * MONTH_HOURS * 3600.0 / (stream.work.cpu_ms / 1e3);
            Some(requests * lambda_request(question, stream))
        }
        Kind::OnDemand => cheapest(&|it| it.on_demand.amount),
        Kind::Spot => cheapest(&|it| it.spot.amount),
        Kind::Reserved1y => cheapest(&|it| it.reserved_1y.amount),
        Kind::Reserved3y => cheapest(&|it| it.reserved_3y.amount),
        Kind::Fargate => {
            Some((question.prices.of(Key::FargateCpu) + 2.0 * question.prices.of(Key::FargateMemory)) * MONTH_HOURS)
        }
        Kind::FargateSpot => Some(
            (question.prices.of(Key::FargateSpotCpu) + 2.0 * question.prices.of(Key::FargateSpotMemory)) * MONTH_HOURS,
        ),
        Kind::Own => {
            let power = question.prices.of(Key::OwnPower);
            let each = question.prices.own.iter().map(|it| {
                let fixed = it.purchase.amount / f64::from(it.life_months) + it.watts / 1e3 * MONTH_HOURS * power;
                (fixed + it.rack_units * question.prices.of(Key::OwnColocation)) / f64::from(it.vcpus)
            });
            each.reduce(f64::min)
        }
    }
}

/// Where machines get cheaper than Lambda, for each stream of requests; and where an hour reserved gets cheaper than one
/// on demand.
pub(super) fn crossovers(question: &Question) -> Vec<Crossover> {
    let mut found = Vec::new();
    let machines = [Kind::Own, Kind::Reserved3y, Kind::Reserved1y, Kind::OnDemand, Kind::Fargate];
    for stream in question.streams.iter().filter(|it| matches!(it.demand, Demand::Requests(_))) {
        for kind in machines.into_iter().filter(|kind| question.kinds.contains(kind)) {
            if question.kinds.contains(&Kind::Lambda) {
                found.extend(crossover(question, stream, Kind::Lambda, kind));
            }
        }
    }
    if let Some(stream) = question.streams.first() {
        for kind in [Kind::Reserved3y, Kind::Reserved1y].into_iter().filter(|kind| question.kinds.contains(kind)) {
            found.extend(crossover(question, stream, Kind::OnDemand, kind));
        }
    }
    found
}

/// Solved by halving: the difference of the two costs has one sign below the point and the other above.
fn crossover(question: &Question, stream: &Stream, below: Kind, above: Kind) -> Option<Crossover> {
    // Lambda is paid by what is used of it, and machines on demand by the hours in which they are: both in proportion.
    let variable = |used: f64| match below {
        Kind::Lambda => processor_month(question, stream, below, used),
        _ => processor_month(question, stream, below, 1.0).map(|full| full * used),
    };
    let fixed = processor_month(question, stream, above, 1.0)?;
    let full = variable(1.0)?;
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if variable(middle)? < fixed { low = middle } else { high = middle }
    }
    let utilisation = (full >= fixed).then_some(high);
    Some(Crossover {
        stream: stream.name.clone(),
        below: below.as_str().to_owned(),
        above: above.as_str().to_owned(),
        utilisation,
        requests_per_second: utilisation.map_or(0.0, |used| used / (stream.work.cpu_ms / 1e3)),
        monthly: [full, fixed],
    })
}

/// How far a price must move before the mix has other kinds in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The price.
    pub price: &'static str,
    /// Factor below 1 at which the mix changes, and its kinds then; `None`: not even at a quarter.
    pub down: Option<(f64, Vec<Kind>)>,
    /// Factor above 1; `None`: not even at four times.
    pub up: Option<(f64, Vec<Kind>)>,
    /// What a price higher by a tenth adds to the month's cost.
    pub tenth: Money,
}

pub(super) fn sensitivity(question: &Question, mix: &Mix) -> Vec<Sensitivity> {
    let targets = question.kinds.iter().flat_map(|kind| match kind {
        Kind::Own => vec![Target::Purchase, Target::Key(Key::OwnPower)],
        Kind::Reserved3y => vec![Target::Reserved3y],
        Kind::Reserved1y => vec![Target::Reserved1y],
        Kind::OnDemand => vec![Target::OnDemand],
        Kind::Spot => vec![Target::Spot],
        Kind::Fargate => vec![Target::Key(Key::FargateCpu)],
        Kind::FargateSpot => vec![Target::Key(Key::FargateSpotCpu)],
        Kind::Lambda => vec![Target::Key(Key::LambdaArm), Target::Key(Key::LambdaRequests)],
    });
    let kinds = mix.kinds();
    targets
        .map(|target| {
            let at = |factor: f64| {
                Question { prices: question.prices.scaled(&target, factor), ..question.clone() }.solve().ok()
            };
            let dearer = at(1.1).map_or(Money::ZERO, |dearer| dearer.total());
            Sensitivity {
                price: target.as_str(),
                down: change(&kinds, 0.25, &at),
                up: change(&kinds, 4.0, &at),
                tenth: Money::from_micros(dearer.micros().saturating_sub(mix.total().micros())),
            }
        })
        .collect()
}

/// The factor nearest to 1, to a hundredth of it, at which the kinds of the mix are others, if they are so at `far`.
fn change(kinds: &[Kind], far: f64, at: &dyn Fn(f64) -> Option<Mix>) -> Option<(f64, Vec<Kind>)> {
    let other = |factor| at(factor).map(|mix| mix.kinds()).filter(|found| found != kinds);
    let mut found = (far, other(far)?);
    let mut near = 1.0_f64;
    while (found.0 / near - 1.0).abs() > 0.01 {
        let middle = (near * found.0).sqrt();
        match other(middle) {
            Some(kinds) => found = (middle, kinds),
            None => near = middle,
        }
    }
    Some(found)
}

/// What happens when a part is lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fallback {
    /// What is lost.
    pub lost: String,
    /// Most of an hour's capacity that is gone at once.
    pub at_once: f64,
    /// Who carries it then, and what it costs a month; the error when nobody can.
    pub then: Result<(Vec<Kind>, Money), String>,
}

pub(super) fn fallbacks(question: &Question, mix: &Mix) -> Vec<Fallback> {
    let kinds = mix.kinds();
    let at_once = |gone: &dyn Fn(Kind) -> bool| {
        let share = |hour: &super::HourMix| {
            let lost: f64 = Kind::ALL.iter().filter(|kind| gone(**kind)).map(|kind| hour.carried[*kind as usize]).sum();
            if hour.needed > 0.0 { lost / hour.needed } else { 0.0 }
        };
        mix.hours.iter().map(share).fold(0.0, f64::max)
    };
    let solve =
        |changed: Question| changed.solve().map(|mix| (mix.kinds(), mix.total())).map_err(|error| error.to_string());
    let mut found = Vec::new();
    if kinds.iter().any(|kind| kind.interrupted()) {
        let left = question.kinds.iter().copied().filter(|kind| !kind.interrupted()).collect();
        found.push(Fallback {
            lost: "spot capacity".to_owned(),
            at_once: at_once(&Kind::interrupted),
            then: solve(Question { kinds: left, ..question.clone() }),
        });
    }
    for place in &question.places {
        let concerns = |kind: Kind| (kind == Kind::Own) == (place.kind == PlaceKind::Edge);
        let runs = |kind: &Kind| {
            concerns(*kind)
                && question.streams.iter().any(|it| chosen(question, it, *kind).is_ok_and(|(used, _)| used == place))
        };
        if !kinds.iter().any(runs) {
            continue;
        }
        let places: Vec<_> = question.places.iter().filter(|other| *other != place).cloned().collect();
        let alike = places.iter().any(|other| other.kind == place.kind);
        let left = question.kinds.iter().copied().filter(|kind| alike || !concerns(*kind)).collect();
        found.push(Fallback {
            lost: format!("{} {}", if place.kind == PlaceKind::Edge { "edge" } else { "region" }, place.name),
            at_once: at_once(&concerns),
            then: solve(Question { places, kinds: left, ..question.clone() }),
        });
    }
    found
}

/// What the load would cost otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// With whom.
    pub with: String,
    /// A month; why not, where it cannot be.
    pub monthly: Result<Money, String>,
}

/// Each kind alone, then other sellers by use (with what they give free, and with the bytes sent).
pub(super) fn comparisons(question: &Question) -> Vec<Comparison> {
    let alone = |kind: &Kind| {
        let mix = Question { kinds: vec![*kind], ..question.clone() }.solve();
        let monthly = mix.map(|mix| mix.total()).map_err(|error| error.to_string());
        Comparison { with: format!("{} alone", kind.as_str()), monthly }
    };
    let mut found: Vec<_> = question.kinds.iter().map(alone).collect();
    let weeks = MONTH_HOURS / 168.0;
    for model in Metered::ALL {
        let mut total = Ok(Money::ZERO);
        for stream in &question.streams {
            let Demand::Requests(week) = &stream.demand else {
                total = Err(format!("\"{}\" is a batch", stream.name));
                break;
            };
            if let Err(why) = takes(model, stream) {
                total = Err(why);
                break;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cast from f64 saturates: that is meant"
            )]
            let usage = usage_of(stream, (week.requests() * weeks).round() as u64);
            let terms = Terms { memory_mb: lambda_memory_mb(question, stream), ..Terms::default() };
            let bill = metered(model, &usage, &question.prices, &terms);
            total = total.map(|sum| sum + bill.total());
        }
        found.push(Comparison { with: model.as_str().to_owned(), monthly: total });
    }
    found
}

/// Whether a seller takes such requests at all: memory in MB, time or processor time in ms.
fn takes(model: Metered, stream: &Stream) -> Result<(), String> {
    let (memory, time, of_cpu) = match model {
        Metered::LambdaArm | Metered::LambdaX86 => (10_240.0, 900_000.0, false),
        Metered::LambdaEdge => (10_240.0, 30_000.0, false),
        Metered::CloudFrontFunctions => (2.0, 1.0, true),
        Metered::Workers => (128.0, 300_000.0, true),
        Metered::Vercel => (4096.0, 800_000.0, false),
        Metered::Deno => (512.0, 200.0, true),
    };
    let takes = if of_cpu { stream.work.cpu_ms } else { stream.work.service_p99_ms() };
    if stream.work.memory_mb > memory {
        return Err(format!(
            "\"{}\" needs {:.0} MB; {memory:.0} MB is the most there",
            stream.name, stream.work.memory_mb
        ));
    }
    if takes > time {
        let what = if of_cpu { "of processor time" } else { "from start to end" };
        return Err(format!("\"{}\" takes {takes:.0} ms {what}; {time:.0} ms is the most there", stream.name));
    }
    Ok(())
}
