//! How many requests a second the smallest functions answer, and how fast.

use super::Question;
use crate::peers::{deno, nginx, workerd};
use crate::report::Report;
use crate::rounds::{self, Contender};
use crate::skerry::{Origin, Pop, function};
use crate::{Bench, Failure, sources};

const ABOUT: &str = "the smallest functions, beside a server that has such an answer in its configuration";

/// Workers of the servers that may use both cores.
const WORKERS: u32 = 2;

/// Measures.
///
/// # Errors
/// What did not start, or did not answer what it should.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::Hello, ABOUT);
    let (deno, workerd, nginx) = (report.peer(deno::DENO), report.peer(workerd::WORKERD), report.peer(nginx::NGINX));
    let origin = Origin::start(bench, folder).await?;
    let (hello, fields) = (sources::hello(), sources::with_fields());
    origin.deploy(&[function("hello", hello.clone()), function("fields", fields.clone())]).await?;

    let plain = |name: &str, server| Contender::new(name, server, "/hello");
    let mut plains = vec![
        plain("skerry", origin.pop(&Pop::named("plain")).await?),
        plain("skerry with its access log", origin.pop(&Pop::named("logging").logging()).await?),
    ];
    let asked = |name: &str, server| Contender::asked(name, server, "/fields", &sources::FIELDS);
    let mut askeds = vec![asked("skerry", origin.pop(&Pop::named("fields")).await?)];
    let mut both = vec![plain("skerry", origin.pop(&Pop::named("both").workers(WORKERS)).await?)];
    if let Some(deno) = &deno {
        plains.push(plain("deno serve", deno::serve(machine, deno, folder, "deno", &hello).await?));
        askeds.push(asked("deno serve", deno::serve(machine, deno, folder, "deno-fields", &fields).await?));
        let server = deno::serve_parallel(machine, deno, folder, "deno-both", &hello, WORKERS).await?;
        both.push(plain("deno serve --parallel", server));
    }
    if let Some(workerd) = &workerd {
        plains.push(plain("workerd", workerd::serve(machine, workerd, folder, "workerd", &hello).await?));
        askeds.push(asked("workerd", workerd::serve(machine, workerd, folder, "workerd-fields", &fields).await?));
    }
    if let Some(nginx) = &nginx {
        plains.push(plain("nginx return 200", nginx::hello(machine, nginx, folder).await?));
        both.push(plain("nginx return 200", nginx::hello_parallel(machine, nginx, folder, WORKERS).await?));
    }

    for contender in plains.iter().chain(&both) {
        contender.check(sources::BODY.as_bytes()).await?;
    }
    for contender in &askeds {
        contender.check(sources::with_fields_answer(contender.address(), "/fields").as_bytes()).await?;
    }
    rounds::compare(bench, &mut report, "the smallest function", plains).await?;
    rounds::compare(bench, &mut report, "method, URL and two fields read, two set", askeds).await?;
    rounds::compare(bench, &mut report, "two workers", both).await?;
    report.note(
        "two workers: both cores are free for the server and the load generator takes its share of one, so twice the \
         requests of one worker are out of reach; CPU per request tells what the second worker costs",
    );
    report.note("workerd has one worker thread, so it is not among those with two");
    Ok(report)
}
