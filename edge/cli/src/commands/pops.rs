//! `skerry pops`.

use clap::Args;
use futures::future::join_all;
use serde::Serialize;

use super::ago;
use crate::access::{Access, AccessArgs};
use crate::front::health;
use crate::output::{self, Failure};
use crate::table::{Align, Table};

/// List the PoPs and region nodes: which manifest and which purges each has, and what it could not start
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Pops {
    #[command(flatten)]
    access: AccessArgs,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// A PoP, from what the origin and the fleet's file know.
#[derive(Debug, Serialize)]
struct Row {
    pop: String,
    /// Whether it is a region node; `None` when it is not known here.
    region: Option<bool>,
    address: Option<String>,
    /// Whether it answers its health check; `None` when its address is not known here.
    up: Option<bool>,
    generation: Option<u64>,
    /// Generations it is behind.
    behind: Option<u64>,
    /// Number of the last purge in force there.
    purge: Option<u64>,
    /// Whether it has every purge.
    purged: Option<bool>,
    /// Whether it validates what it has stored before it sends it.
    fenced: Option<bool>,
    last_seen_ms: Option<u64>,
    failed: std::collections::BTreeMap<origin::bundle::FunctionName, String>,
}

impl Pops {
    /// Lists.
    ///
    /// # Errors
    /// When the origin does not answer.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let access = self.access.find(&std::env::current_dir()?)?;
        let rows = super::runtime()?.block_on(rows(&access))?;
        if self.json {
            return output::json(&rows);
        }
        let left = Align::Left;
        let mut table = Table::new(&[
            ("POP", left),
            ("ADDRESS", left),
            ("STATE", left),
            ("GENERATION", Align::Right),
            ("PURGES", left),
            ("LAST SEEN", Align::Right),
            ("FAILED", left),
        ]);
        for row in rows {
            let state = match (row.up, row.behind) {
                (Some(false), _) => "down".to_owned(),
                (_, None) => "not heard of yet".to_owned(),
                (_, Some(0)) => "up to date".to_owned(),
                (_, Some(behind)) => format!("{behind} behind"),
            };
            let purges = match (row.purged, row.fenced) {
                (None, _) => "",
                (_, Some(true)) => "fenced",
                (Some(true), _) => "all",
                (Some(false), _) => "behind",
            };
            let failed: Vec<String> = row
                .failed
                .iter()
                .map(|(name, why)| format!("{name}: {}", why.lines().next().unwrap_or_default()))
                .collect();
            let name = if row.region == Some(true) { format!("{} (region)", row.pop) } else { row.pop };
            table.row([
                name,
                row.address.unwrap_or_default(),
                state,
                row.generation.map(|generation| generation.to_string()).unwrap_or_default(),
                purges.to_owned(),
                row.last_seen_ms.map(ago).unwrap_or_default(),
                failed.join("; "),
            ]);
        }
        output::print(table)
    }
}

async fn rows(access: &Access) -> Result<Vec<Row>, Failure> {
    let control = access.control()?;
    let generation = control.manifest().await?.generation;
    let mut seen = control.pops().await?;
    let purges = control.purges().await?;
    let nodes = access.fleet.iter().flat_map(|fleet| {
        fleet.pops.iter().map(|pop| (pop, false)).chain(fleet.regions.iter().map(|region| (region, true)))
    });
    let known = nodes.map(async |(node, region)| (node, region, health::probe(node.address).await.is_some()));
    let mut rows = Vec::new();
    for (node, region, up) in join_all(known).await {
        let at = seen.iter().position(|pop| pop.name == node.name);
        let seen = at.map(|at| seen.remove(at));
        let known = row(seen, generation, &node.name, Some((node.address.to_string(), up)));
        rows.push(Row { region: Some(region), ..known });
    }
    rows.extend(seen.into_iter().map(|pop| {
        let name = pop.name.clone();
        row(Some(pop), generation, &name, None)
    }));
    for row in &mut rows {
        let follower = purges.pops.iter().find(|follower| follower.pop == row.pop);
        row.purge = follower.map(|follower| follower.number);
        row.purged = follower.map(|follower| follower.number >= purges.last);
        row.fenced = follower.map(|follower| follower.fenced);
    }
    Ok(rows)
}

fn row(seen: Option<origin::api::Pop>, generation: u64, name: &str, node: Option<(String, bool)>) -> Row {
    let (address, up) = node.unzip();
    Row {
        pop: name.to_owned(),
        region: None,
        address,
        up,
        generation: seen.as_ref().map(|pop| pop.generation),
        behind: seen.as_ref().map(|pop| generation.saturating_sub(pop.generation)),
        purge: None,
        purged: None,
        fenced: None,
        last_seen_ms: seen.as_ref().map(|pop| pop.last_seen_ms),
        failed: seen.map(|pop| pop.failed).unwrap_or_default(),
    }
}
