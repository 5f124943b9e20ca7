//! How many requests a second the smallest function answers, and how fast.

use super::Question;
use crate::peers::{nginx, workerd};
use crate::report::Report;
use crate::rounds::{self, Contender};
use crate::skerry::{AccessLog, Origin, function};
use crate::{Bench, Failure, sources};

const ABOUT: &str = "the smallest function, beside a server that has the same answer in its configuration";

/// Measures.
///
/// # Errors
/// What did not start or answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::Hello, ABOUT, &rounds::COLUMNS);
    let origin = Origin::start(bench, folder).await?;
    origin.deploy(&[function("hello", sources::hello())]).await?;
    let mut contenders = vec![
        Contender::new("skerry", origin.pop("plain", AccessLog::Off).await?, "/hello"),
        Contender::new("skerry with its access log", origin.pop("logging", AccessLog::On).await?, "/hello"),
    ];
    if let Some(workerd) = report.peer(workerd::WORKERD) {
        contenders.push(Contender::new("workerd", workerd::hello(machine, &workerd, folder).await?, "/hello"));
    }
    if let Some(nginx) = report.peer(nginx::NGINX) {
        contenders.push(Contender::new("nginx return 200", nginx::hello(machine, &nginx, folder).await?, "/hello"));
    }
    rounds::compare(bench, &mut report, contenders).await?;
    Ok(report)
}
