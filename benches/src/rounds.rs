//! Servers that take turns: each is measured once in every round, so that what disturbs the machine disturbs all.

use std::net::SocketAddr;
use std::time::Duration;

use crate::connection::{Connection, get_with};
use crate::figure::Figure;
use crate::load::{self, Sample};
use crate::report::{Column, Report};
use crate::server::Server;
use crate::{Bench, Failure, process};

/// Connections of the sample under load.
const CONNECTIONS: usize = 32;

/// What is measured of each.
pub(crate) const COLUMNS: [Column; 10] = [
    Column::range("requests/s", "requests_per_second", 0),
    Column::range("CPU µs/request", "cpu_micros_per_request", 1),
    Column::new("p50 µs", "p50_micros", 0),
    Column::new("p99 µs", "p99_micros", 0),
    Column::new("p50 of one", "one_connection_p50_micros", 0),
    Column::new("p99 of one", "one_connection_p99_micros", 0),
    Column::new("RSS MiB", "resident_mib", 1),
    Column::new("server %", "server_core_percent", 0),
    Column::new("load %", "load_core_percent", 0),
    Column::new("others %", "others_core_percent", 0),
];

/// A server and what it is asked.
pub(crate) struct Contender {
    name: String,
    server: Server,
    request: Vec<u8>,
    figures: Vec<Figure>,
}

impl Contender {
    /// Before the first round.
    pub(crate) fn new(name: &str, server: Server, path: &str) -> Self {
        Self::asked::<&str>(name, server, path, &[])
    }

    /// The same, with fields in the request.
    pub(crate) fn asked<T: AsRef<str>>(name: &str, server: Server, path: &str, fields: &[(&str, T)]) -> Self {
        let request = get_with(server.address, path, fields);
        Self { name: name.to_owned(), server, request, figures: vec![Figure::default(); COLUMNS.len()] }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Asks once and takes the answer, which must be a 200, to its end.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) async fn once(&self) -> Result<(), Failure> {
        let mut connection = Connection::open(self.server.address).await?;
        connection.exchange(&self.request, |_| ()).await.map_err(|error| format!("{}: {error}", self.name))?;
        Ok(())
    }

    /// Asks once, and sees to it that the answer is a 200 with this body.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) async fn check(&self, body: &[u8]) -> Result<(), Failure> {
        let answer = self.server.answer(&self.request).await?;
        if answer.status == 200 && answer.body == body {
            return Ok(());
        }
        let (name, status, error) = (&self.name, answer.status, answer.error);
        let (body, wanted) = (String::from_utf8_lossy(&answer.body), String::from_utf8_lossy(body));
        Err(format!("{name} answers {status} {error} with {body:.200?}, not 200 with {wanted:.200?}").into())
    }

    async fn sample(&self, connections: usize, time: Duration) -> Result<Sample, Failure> {
        let sample = load::repeat(&self.server, &self.request, connections, time).await;
        sample.map_err(|failure| format!("{}: {failure}", self.name).into())
    }

    async fn measure(&mut self, time: Duration) -> Result<(), Failure> {
        self.sample(CONNECTIONS, time / 4).await?;
        let (before, all_before) = (self.server.usage(), process::all_cpu());
        let many = self.sample(CONNECTIONS, time).await?;
        let (after, all) = (self.server.usage(), process::all_cpu().saturating_sub(all_before));
        let one = self.sample(1, time / 2).await?;
        let (cpu, elapsed) = (after.cpu.saturating_sub(before.cpu).as_secs_f64(), many.elapsed.as_secs_f64());
        let own = many.own_cpu.as_secs_f64();
        let requests = many.latencies.count() as f64;
        let values = [
            Some(requests / elapsed),
            Some(cpu * 1e6 / requests),
            many.latencies.micros(0.5),
            many.latencies.micros(0.99),
            one.latencies.micros(0.5),
            one.latencies.micros(0.99),
            Some(after.resident as f64 / f64::from(1 << 20)),
            Some(cpu / elapsed * 100.0),
            Some(own / elapsed * 100.0),
            Some((all.as_secs_f64() - cpu - own).max(0.0) / elapsed * 100.0),
        ];
        self.figures.iter_mut().zip(values).for_each(|(figure, value)| figure.add(value));
        Ok(())
    }
}

/// Measures all of them in turns, each round in the other direction than the one before, and puts them into the report.
///
/// # Errors
/// The first that failed.
pub(crate) async fn compare(
    bench: &Bench,
    report: &mut Report,
    title: &str,
    mut contenders: Vec<Contender>,
) -> Result<(), Failure> {
    let time = Duration::from_secs_f64(bench.options.seconds);
    for contender in &contenders {
        contender.sample(CONNECTIONS, time).await?;
    }
    for round in 0..bench.options.rounds {
        let mut order: Vec<_> = contenders.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            contender.measure(time).await?;
        }
    }
    let (half, rounds) = (time / 2, bench.options.rounds);
    report.method(format!(
        "{CONNECTIONS} connections for {time:?} and one for {half:?}, closed loop; {rounds} rounds in turns: median \
         (least..greatest); % are of one core, and others are what else ran on this machine"
    ));
    let table = report.table(title, &COLUMNS);
    for Contender { name, figures, .. } in contenders {
        table.row(name, figures);
    }
    Ok(())
}
