//! How fast a cached object of 10 KiB is served.

use super::Question;
use crate::peers::{Caching, nginx, varnish};
use crate::report::Report;
use crate::rounds::{self, Contender};
use crate::skerry::{Origin, Pop, object};
use crate::{Bench, Failure, sources};

const ABOUT: &str = "a static file of 10 KiB out of the cache; every cache has it from the same origin";

const BYTES: usize = 10 << 10;

/// Measures.
///
/// # Errors
/// What did not start or answer, or asked the origin for what it had.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::CachedObject, ABOUT);
    let origin = Origin::start(bench, folder).await?;
    let body = noise(BYTES);
    let asset = origin.asset(body.clone()).await?;
    let through = object("through", asset.clone(), Some(sources::pass_through(sources::Origin::Own)));
    origin.deploy(&[object("object", asset, None), through]).await?;
    let (direct, function) = (origin.pop(&Pop::named("direct")).await?, origin.pop(&Pop::named("function")).await?);
    let mut contenders = vec![
        Contender::new("skerry", direct, "/object"),
        Contender::new("skerry through a function", function, "/through"),
    ];
    let address = origin.address();
    if let Some(nginx) = report.peer(nginx::NGINX) {
        let server = nginx::cache(machine, &nginx, folder, address, "/object", Caching::default()).await?;
        contenders.push(Contender::new("nginx proxy_cache", server, "/object"));
    }
    if let Some(varnish) = report.peer(varnish::VARNISH) {
        let server = varnish::cache(machine, &varnish, folder, address, "/object", Caching::default()).await?;
        contenders.push(Contender::new("varnish", server, "/object"));
    }
    for contender in &contenders {
        contender.check(&body).await?;
    }
    let before = origin.requests().await?;
    rounds::compare(bench, &mut report, "", contenders).await?;
    let missed = origin.requests().await? - before;
    if missed > 0 {
        return Err(format!("the origin was asked {missed} times while only hits were to be measured").into());
    }
    Ok(report)
}

/// Bytes that nothing can make smaller.
fn noise(length: usize) -> Vec<u8> {
    use rand::{RngCore as _, SeedableRng as _};
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}
