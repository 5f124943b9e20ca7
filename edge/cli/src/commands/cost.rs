//! `skerry cost`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use capacity::price::{Date, MONTH_HOURS, Money, OwnNode, PriceBook};
use capacity::usage::bill::{Bill, LAMBDA_MIN_MB, Metered, Terms, metered, own, own_share};
use capacity::usage::{Meter, Usage, UsageKey};
use clap::{Args, ValueEnum};
use origin::api::{Alert, UsageReport};
use origin::client::ControlError;
use serde::Serialize;

use super::meter::{book, own_machine};
use crate::access::AccessArgs;
use crate::output::{self, Failure};
use crate::table::{Align, Table};

/// Show what functions have used in a day, what it costs, and what it would have cost elsewhere
///
/// The bill is of machines of your own: the processor time of a function is its part of a machine (of the price book's
/// first own machine), and the bytes it sends are paid for; what machines cost while they are idle is a line of its own.
/// Beside it stands what the same usage costs where functions are sold by use, with plans and free amounts in proportion
/// to the time. A request between PoPs, or one that no function answers, is of the function "-".
///
/// PoPs deliver what was used every few seconds (--meter-every), when requests are over.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Cost {
    #[command(flatten)]
    access: AccessArgs,
    /// The day, YYYY-MM-DD, in UTC [default: today]
    #[arg(long, value_name = "DAY", conflicts_with = "month")]
    day: Option<Date>,
    /// A month instead, YYYY-MM: by function and PoP alone
    #[arg(long, value_name = "MONTH", value_parser = month)]
    month: Option<String>,
    /// Of this function alone
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// What functions are divided by, as in version,cohort
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    by: Vec<Part>,
    /// A price book in place of the one that comes with skerry
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Machines that were paid for [default: one for each PoP that delivered something, or runs now if the period is not over]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    machines: Option<u32>,
    /// Days after which a price is called stale
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    max_age: u32,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// What a function's usage can be divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Version,
    Pop,
    Cohort,
}

fn month(text: &str) -> Result<String, String> {
    let day: Result<Date, _> = format!("{text}-01").parse();
    day.map(|_| text.to_owned()).map_err(|_| format!("{text:?} is no month: write YYYY-MM"))
}

/// The answer, for programs.
#[derive(Debug, Serialize)]
struct Answer {
    period: String,
    currency: String,
    /// What own machines cost.
    own: Own,
    /// What the same would have cost there.
    elsewhere: Vec<Elsewhere>,
    /// Thresholds of budgets that were passed.
    alerts: Vec<Alert>,
    prices: Prices,
}

#[derive(Debug, Serialize)]
struct Own {
    machine: String,
    machines: u32,
    rows: Vec<Row>,
    /// What the machines cost beyond what functions took; `None` where a function alone was asked for.
    idle: Option<Money>,
    total: Money,
    unverified: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cohort: Option<String>,
    usage: Usage,
    cost: Money,
}

#[derive(Debug, Serialize)]
struct Elsewhere {
    name: &'static str,
    total: Money,
    unverified: bool,
    bill: Bill,
}

#[derive(Debug, Serialize)]
struct Prices {
    /// When the oldest and the newest of the book's prices were read.
    oldest: String,
    newest: String,
    /// Sources that are older than --max-age.
    stale: Vec<String>,
    /// Sources that nobody has compared with the seller's page.
    unverified: Vec<String>,
}

impl Cost {
    /// Prints the bill.
    ///
    /// # Errors
    /// When the origin does not answer, or the price book makes no sense.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.month.is_some() && self.by.iter().any(|part| *part != Part::Pop) {
            let why = "a month is kept by function and PoP: --by version and --by cohort need a --day";
            return Err(Failure::Usage(why.to_owned()));
        }
        let prices = book(self.prices.as_deref())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let today = Date::from_unix_seconds(now);
        let period = self.month.clone().unwrap_or_else(|| self.day.unwrap_or(today).to_string());
        let access = self.access.find(&std::env::current_dir()?)?;
        let control = access.control()?;
        let is_now = today.to_string().starts_with(&period);
        let (report, running) = super::runtime()?.block_on(async {
            // One that is idle costs as much; which there were in the past, nobody knows.
            let running = if is_now { control.pops().await? } else { Vec::new() };
            Ok::<_, ControlError>((control.usage(&period).await?, running))
        })?;
        let running = running.into_iter().map(|pop| pop.name).collect();
        let answer = self.answer(report, running, &prices, today)?;
        if self.json { output::json(&answer) } else { output::print(self.text(&answer)) }
    }

    fn answer(
        &self,
        report: UsageReport,
        running: BTreeSet<String>,
        prices: &PriceBook,
        today: Date,
    ) -> Result<Answer, Failure> {
        let machine = own_machine(prices)?;
        let months = if self.month.is_some() { 1.0 } else { 24.0 / MONTH_HOURS };
        let pops = report.pops.keys().chain(&running).collect::<BTreeSet<_>>().len();
        let machines = self.machines.unwrap_or_else(|| u32::try_from(pops).unwrap_or(u32::MAX));
        let is_wanted = |function: &str| self.function.as_ref().is_none_or(|wanted| wanted == function);
        let (mut meter, alerts) = (Meter::new(usize::MAX), report.alerts);
        for (pop, rows) in report.pops {
            for row in rows.into_iter().filter(|row| is_wanted(&row.function)) {
                let usage = Usage::of_numbers(&row.used);
                let (function, version, cohort) = (row.function, row.version, row.cohort);
                meter.add(&UsageKey { function, version, pop: pop.clone(), cohort }, usage);
            }
        }
        let all = meter.total();
        let elsewhere = Metered::ALL.map(|model| {
            let bill = metered(model, &all, prices, &Terms { memory_mb: memory_mb(&all), months, allowances: true });
            Elsewhere { name: model.as_str(), total: bill.total(), unverified: bill.is_unverified(), bill }
        });
        Ok(Answer {
            period: report.period,
            currency: prices.currency.clone(),
            own: self.own(&meter, machine, machines, months, prices),
            elsewhere: elsewhere.into(),
            alerts: alerts.into_iter().filter(|alert| is_wanted(&alert.function)).collect(),
            prices: self.doubts(prices, today),
        })
    }

    fn own(&self, meter: &Meter, machine: &OwnNode, machines: u32, months: f64, prices: &PriceBook) -> Own {
        let has = |part: Part| self.by.contains(&part);
        let part = |wanted: Part, value: &String| has(wanted).then(|| value.clone());
        let key = |key: &UsageKey| {
            let (version, pop, cohort) =
                (part(Part::Version, &key.version), part(Part::Pop, &key.pop), part(Part::Cohort, &key.cohort));
            (key.function.clone(), version, pop, cohort)
        };
        let row = |((function, version, pop, cohort), usage): (_, Usage)| {
            let cost = own_share(machine, &usage, prices).total();
            Row { function, version, pop, cohort, usage, cost }
        };
        let mut rows: Vec<Row> = meter.by(key).into_iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.cost));
        let terms = Terms { months, ..Terms::default() };
        let paid = own(machine, f64::from(machines), &Usage::default(), prices, &terms);
        let taken = own_share(machine, &Usage { bytes_out: 0, ..meter.total() }, prices).total();
        let idle = Money::from_micros(paid.total().micros().saturating_sub(taken.micros()));
        let idle = self.function.is_none().then_some(idle);
        let total = rows.iter().map(|row| row.cost).chain(idle).sum();
        Own { machine: machine.name.clone(), machines, rows, idle, total, unverified: paid.is_unverified() }
    }

    fn doubts(&self, prices: &PriceBook, today: Date) -> Prices {
        let doubts = prices.doubts(today, i64::from(self.max_age));
        let dates = || prices.sources.iter().map(|source| source.date);
        let text = |date: Option<Date>| date.map(|date| date.to_string()).unwrap_or_default();
        Prices {
            oldest: text(dates().min()),
            newest: text(dates().max()),
            stale: doubts.iter().filter(|it| it.stale_days.is_some()).map(|it| it.source.clone()).collect(),
            unverified: doubts.iter().filter(|it| it.unverified).map(|it| it.source.clone()).collect(),
        }
    }

    fn text(&self, answer: &Answer) -> String {
        let Answer { period, currency, own, elsewhere, alerts, prices } = answer;
        if own.rows.is_empty() {
            let of = self.function.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
            return format!("No usage{of} is known for {period}. PoPs deliver it every few seconds.\n");
        }
        let mark = |unverified: bool| if unverified { "*" } else { "" };
        let mut text = format!("{}\n", self.rows(answer));
        let (machine, star, total) = (&own.machine, mark(own.unverified), own.total);
        let whose = match (&self.function, own.machines) {
            (Some(function), _) => format!("The part of {function} in machines like {machine}{star}"),
            (None, 1) => format!("One machine like {machine}{star}"),
            (None, machines) => format!("{machines} machines like {machine}{star}"),
        };
        text.push_str(&format!("{whose} and what was sent: {total} {currency} for {period}.\n\n"));
        let mut table = Table::new(&[("THE SAME ELSEWHERE", Align::Left), (CURRENCY, Align::Right), ("", Align::Left)]);
        for place in elsewhere {
            table.row([place.name, &place.total.to_string(), mark(place.unverified)]);
        }
        text.push_str(&table.to_string());
        let (oldest, newest) = (&prices.oldest, &prices.newest);
        text.push_str(&format!("\nPrices in {currency}, read between {oldest} and {newest}."));
        if !prices.unverified.is_empty() {
            text.push_str(" With *: not compared with the seller's page.");
        }
        text.push('\n');
        if !prices.stale.is_empty() {
            let stale = prices.stale.join(", ");
            text.push_str(&format!("Older than {} days: {stale}. Give newer ones with --prices.\n", self.max_age));
        }
        for Alert { function, period, percent, amount_micros, spent_micros, currency, pop, .. } in alerts {
            let (spent, amount) = (Money::from_micros(*spent_micros), Money::from_micros(*amount_micros));
            text.push_str(&format!(
                "{function} passed {percent} % of its budget of {amount} {currency} for {period}: {spent} were spent when {pop} saw it.\n"
            ));
        }
        text
    }

    fn rows(&self, answer: &Answer) -> Table {
        let parts = [("VERSION", Part::Version), ("POP", Part::Pop), ("COHORT", Part::Cohort)];
        let parts: Vec<_> = parts.into_iter().filter(|(_, part)| self.by.contains(part)).collect();
        let mut head = vec![("FUNCTION", Align::Left)];
        head.extend(parts.iter().map(|(name, _)| (*name, Align::Left)));
        let numbers = ["REQUESTS", "RAN", "CPU s", "GB-s", "MB OUT", "FILLS", "READS", CURRENCY];
        head.extend(numbers.map(|name| (name, Align::Right)));
        let mut table = Table::new(&head);
        let mut add = |names: Vec<String>, usage: Option<&Usage>, cost: &Money| {
            let blank = 1 + parts.len() - names.len();
            let cells = names.into_iter().chain(vec![String::new(); blank]);
            table.row(cells.chain(figures(usage)).chain([cost.to_string()]));
        };
        let mut all = Usage::default();
        for row in &answer.own.rows {
            let cell = |part: Part| match part {
                Part::Version => &row.version,
                Part::Pop => &row.pop,
                Part::Cohort => &row.cohort,
            };
            let cells = parts.iter().map(|(_, part)| cell(*part).clone().unwrap_or_default());
            add(std::iter::once(row.function.clone()).chain(cells).collect(), Some(&row.usage), &row.cost);
            all += row.usage;
        }
        if let Some(idle) = &answer.own.idle {
            add(vec!["(idle)".to_owned()], None, idle);
        }
        add(vec!["total".to_owned()], Some(&all), &answer.own.total);
        table
    }
}

/// The head of a column of money; which, is said below.
const CURRENCY: &str = "COST";

/// The cells of a usage.
fn figures(usage: Option<&Usage>) -> [String; 7] {
    let Some(usage) = usage else { return Default::default() };
    let part = |value: u64, of: f64| format!("{:.3}", value as f64 / of);
    [
        usage.requests.to_string(),
        usage.invocations.to_string(),
        part(usage.cpu_us, 1e6),
        part(usage.memory_mb_ms, 1024e3),
        part(usage.bytes_out, 1e6),
        usage.cache_fills.to_string(),
        usage.object_reads.to_string(),
    ]
}

/// The memory that functions had, each as long as it ran.
fn memory_mb(usage: &Usage) -> f64 {
    let wall_ms = usage.wall_us as f64 / 1e3;
    if wall_ms > 0.0 { usage.memory_mb_ms as f64 / wall_ms } else { LAMBDA_MIN_MB }
}
