//! How many tokens a second are verified.

use super::Question;
use crate::peers::{deno, workerd};
use crate::report::Report;
use crate::rounds::{self, Contender};
use crate::server::Server;
use crate::skerry::{Origin, Pop, function};
use crate::token::{self, Signer};
use crate::{Bench, Failure, connection};

const ABOUT: &str = "a function that verifies a JSON Web Token: with the binding, or with WebCrypto in JavaScript";

/// Measures.
///
/// # Errors
/// What did not start, refused a good token, or accepted a bad one.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::Jwt, ABOUT);
    let (deno, workerd) = (report.peer(deno::DENO), report.peer(workerd::WORKERD));
    let origin = Origin::start(bench, folder).await?;
    for signer in [Signer::hs256()?, Signer::rs256()?] {
        let name = signer.algorithm().to_lowercase();
        let mut verifying = function(&name, token::WITH_BINDING.to_owned());
        verifying.config.jwt = vec![signer.binding()];
        origin.deploy(&[verifying]).await?;
        let source = signer.webcrypto();
        let mut servers = vec![("skerry", origin.pop(&Pop::named(&name)).await?)];
        if let Some(deno) = &deno {
            let server = deno::serve(machine, deno, folder, &format!("deno-{name}"), &source).await?;
            servers.push(("deno serve", server));
        }
        if let Some(workerd) = &workerd {
            let server = workerd::serve(machine, workerd, folder, &format!("workerd-{name}"), &source).await?;
            servers.push(("workerd", server));
        }
        let path = format!("/{name}");
        let mut contenders = Vec::new();
        for (name, server) in servers {
            refuses(name, &server, &path, &signer.forged()?).await?;
            let contender = Contender::asked(name, server, &path, &bearer(&signer.token()?));
            contender.check(format!("{}\n", token::SUBJECT).as_bytes()).await?;
            contenders.push(contender);
        }
        rounds::compare(bench, &mut report, signer.algorithm(), contenders).await?;
    }
    report.note(
        "one key, imported once, and one good token; signature, algorithm, issuer, audience and expiry are checked, and \
         each server has refused a token with one wrong bit in its signature with 401 before",
    );
    report.note("RS256 with a key of 2048 bits");
    Ok(report)
}

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("Authorization", format!("Bearer {token}"))]
}

async fn refuses(name: &str, server: &Server, path: &str, forged: &str) -> Result<(), Failure> {
    let answer = server.answer(&connection::get_with(server.address, path, &bearer(forged))).await?;
    match answer.status {
        401 => Ok(()),
        status => {
            Err(format!("{name} answers {status} {} to a token with a wrong signature, not 401", answer.error).into())
        }
    }
}
