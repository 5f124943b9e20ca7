//! What it costs to pass on what an origin answers.

use std::sync::Arc;

use super::Question;
use crate::flow::Flow;
use crate::peers::{deno, nginx, workerd};
use crate::report::Report;
use crate::rounds::{self, Contender};
use crate::skerry::{Origin, Pop, function};
use crate::sources::{self, FIELDS};
use crate::upstream::{SMALL_BYTES, Upstream};
use crate::{Bench, Failure};

const ABOUT: &str =
    "a function that reads a field, sets one, and passes on 1 KiB from an origin that no cache may keep";

const PATH: &str = "/passed";

/// Measures.
///
/// # Errors
/// What did not start, or did not answer what the origin did.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::Passthrough, ABOUT);
    let upstream = Upstream::start(&Arc::new(Flow::default()))?;
    let address = upstream.address;
    let origin = Origin::start(bench, folder).await?;
    origin.deploy(&[function("passed", sources::pass_through_with_field(sources::Origin::Own))]).await?;
    let source = sources::pass_through_with_field(sources::Origin::Other(address, PATH));

    let pop = origin.pop(&Pop::named("pop").in_front_of(address)).await?;
    let mut contenders = vec![Contender::asked("skerry", pop, PATH, &FIELDS)];
    if let Some(nginx) = report.peer(nginx::NGINX) {
        let server = nginx::proxy(machine, &nginx, folder, address).await?;
        contenders.push(Contender::asked("nginx proxy_pass", server, PATH, &FIELDS));
    }
    if let Some(deno) = report.peer(deno::DENO) {
        let server = deno::serve(machine, &deno, folder, "deno", &source).await?;
        contenders.push(Contender::asked("deno serve", server, PATH, &FIELDS));
    }
    if let Some(workerd) = report.peer(workerd::WORKERD) {
        let server = workerd::serve(machine, &workerd, folder, "workerd", &source).await?;
        contenders.push(Contender::asked("workerd", server, PATH, &FIELDS));
    }
    for contender in &contenders {
        contender.check(&[b'x'; SMALL_BYTES]).await?;
    }
    rounds::compare(bench, &mut report, "", contenders).await?;
    report.note("the origin runs on the core of the load generator, in its process: its share is in 'others'");
    Ok(report)
}
