//! `skerry purge`.

use std::time::{Duration, Instant};

use clap::Args;
use origin::api::MAX_WAIT_MS;
use origin::bundle::FunctionName;
use origin::client::Control;
use origin::purge::PurgeRequest;
use serde::Serialize;

use super::ago;
use crate::access::{Access, AccessArgs};
use crate::output::{self, Failure, Progress};
use crate::table::{Align, Table};
use crate::units;

/// Between two looks for PoPs that the origin has not heard of yet.
const INTERVAL: Duration = Duration::from_millis(50);

/// Purge the caches of all PoPs: URLs, or everything with a tag, prefix or host
///
/// What is named is purged together, at most 100 things in a call. Once this says so, the purge is durable: a PoP that is
/// away does it before it serves from its cache again.
///
/// Exit codes: 0 every PoP has done it, 1 it failed, 2 the command line makes no sense and nothing is purged, 3 it is
/// durable, but the PoPs that are named have not confirmed it in time.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Purge {
    /// URLs, each with all its variants: https://example.com/a?b. The scheme does not matter
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// Everything with this tag in Cache-Tag or Surrogate-Key
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Everything whose URL begins so: example.com/a/
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
    /// Everything of this host: example.com, or example.com:8080
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Only what the caches in front of this function have: its prefixes are paths, /a/
    #[arg(long, value_name = "FUNCTION")]
    function: Option<FunctionName>,
    /// Everything there is
    #[arg(long)]
    everything: bool,
    /// Make it stale instead: validated before it is used again, or used where stale responses may be
    #[arg(long)]
    soft: bool,
    /// How long to wait for the PoPs, up to 30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    wait: Duration,
    #[command(flatten)]
    access: AccessArgs,
    /// Print the receipt as JSON
    #[arg(long)]
    json: bool,
}

/// A receipt.
#[derive(Debug, Serialize)]
struct Receipt {
    /// Number of the last of the purges.
    number: u64,
    purges: usize,
    mode: origin::purge::Mode,
    at_ms: u64,
    /// Whether every PoP has done it.
    confirmed: bool,
    pops: Vec<Row>,
}

/// A PoP, from what the origin and the fleet's file know.
#[derive(Debug, Serialize)]
struct Row {
    pop: String,
    /// Milliseconds after the purge was durable until the PoP's word.
    done_ms: Option<u64>,
    last_seen_ms: Option<u64>,
}

impl Purge {
    /// Purges, and waits for the PoPs.
    ///
    /// # Errors
    /// [`Failure::Usage`] where nothing is purged, [`Failure::Unconfirmed`] where a PoP has not confirmed.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let wait_ms = u64::try_from(self.wait.as_millis()).ok().filter(|wait_ms| *wait_ms <= MAX_WAIT_MS);
        let wait_ms = wait_ms.ok_or_else(|| Failure::Usage("--wait is at most 30s".to_owned()))?;
        let request = PurgeRequest {
            files: self.urls,
            tags: self.tags,
            prefixes: self.prefixes,
            hosts: self.hosts,
            function: self.function,
            purge_everything: self.everything,
            soft: self.soft,
            wait_ms,
        };
        request.scopes(flag).map_err(Failure::Usage)?;
        let access = self.access.find(&std::env::current_dir()?)?;
        let progress = Progress::start("purging");
        let receipt = super::runtime()?.block_on(purge(&access, &request))?;
        drop(progress);
        receipt.print(self.json)
    }
}

/// What the command line calls a field of the request.
fn flag(field: &'static str) -> &'static str {
    match field {
        "files" => "URL",
        "tags" => "--tag",
        "prefixes" => "--prefix",
        "hosts" => "--host",
        "function" => "--function",
        "purge_everything" => "--everything",
        other => other,
    }
}

async fn purge(access: &Access, request: &PurgeRequest) -> Result<Receipt, Failure> {
    let control = access.control()?;
    let deadline = Instant::now() + Duration::from_millis(request.wait_ms);
    let mut receipt = receipt(access, control.purge(request).await?);
    // An origin that has just started has not heard of every PoP of the fleet yet.
    while receipt.pops.iter().any(|row| row.last_seen_ms.is_none()) && Instant::now() < deadline {
        tokio::time::sleep(INTERVAL).await;
        receipt = again(access, &control, receipt).await?;
    }
    Ok(receipt)
}

/// The receipt as it is by now.
async fn again(access: &Access, control: &Control, before: Receipt) -> Result<Receipt, Failure> {
    let recent = control.purges().await?.recent;
    Ok(match recent.into_iter().find(|receipt| receipt.number == before.number) {
        Some(now) => receipt(access, now),
        None => before,
    })
}

/// With the PoPs of the fleet that the origin has not heard of.
fn receipt(access: &Access, receipt: origin::purge::Receipt) -> Receipt {
    let row = |pop: origin::purge::Confirmation| Row {
        pop: pop.pop,
        done_ms: pop.done_ms,
        last_seen_ms: Some(pop.last_seen_ms),
    };
    let mut pops: Vec<Row> = receipt.pops.into_iter().map(row).collect();
    for node in access.fleet.iter().flat_map(|fleet| fleet.pops.iter().chain(&fleet.regions)) {
        if !pops.iter().any(|row| row.pop == node.name) {
            pops.push(Row { pop: node.name.clone(), done_ms: None, last_seen_ms: None });
        }
    }
    let confirmed = pops.iter().all(|row| row.done_ms.is_some());
    let origin::purge::Receipt { number, purges, mode, at_ms, .. } = receipt;
    Receipt { number, purges, mode, at_ms, confirmed, pops }
}

impl Receipt {
    fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json {
            output::json(self)?;
        } else {
            let mode = if self.mode == origin::purge::Mode::Soft { "stale" } else { "gone" };
            let mut table =
                Table::new(&[("POP", Align::Left), ("DONE AFTER", Align::Right), ("LAST SEEN", Align::Right)]);
            for row in &self.pops {
                table.row([
                    row.pop.clone(),
                    row.done_ms.map_or_else(|| "not confirmed".to_owned(), |ms| format!("{ms} ms")),
                    row.last_seen_ms.map_or_else(|| "never".to_owned(), ago),
                ]);
            }
            let what = if self.purges == 1 { "1 purge".to_owned() } else { format!("{} purges", self.purges) };
            output::print(format_args!("number {}, {what}: {mode}\n\n{table}", self.number))?;
        }
        let late: Vec<&str> = self.pops.iter().filter(|row| row.done_ms.is_none()).map(|row| &*row.pop).collect();
        if late.is_empty() {
            return Ok(());
        }
        Err(Failure::Unconfirmed(format!(
            "not confirmed yet by {}: the purge is durable, and a PoP that is away does it before it serves from its cache \
             again. `skerry pops` shows how far each is",
            late.join(", ")
        )))
    }
}
