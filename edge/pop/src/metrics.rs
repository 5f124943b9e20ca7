//! The one table of metrics, and what is counted for it.
//!
//! A metric is a row of [`TABLE`]: its name, labels, help, and where its values come from. What a request counts lies on
//! cache lines of the worker that serves it; the workers' counts are added up when somebody reads [`page`].

mod count;
mod page;
mod process;
mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::budgets::Shown;
use crate::state::State;
use crate::upstream::{Gate, Origin, Phase, Side};
use count::Totals;
pub(crate) use count::{Histogram, Tally};
use page::Samples;
pub(crate) use page::{Format, page};
pub(crate) use process::cpu;
use series::Functions;
pub(crate) use series::{Series, Share};

/// What a PoP counts.
pub(crate) struct Metrics {
    /// One for each worker.
    pub(crate) workers: Box<[PerWorker]>,
    pub(crate) functions: Functions,
    /// Polls of the control API, by what came of them.
    pub(crate) polls: Tally<&'static str>,
    /// Workers that were lost, by cause.
    pub(crate) lost: Tally<&'static str>,
    /// Cells that were lost, by cause.
    pub(crate) cells_lost: Tally<&'static str>,
}

/// What one worker counts, beside what it counts for each function.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct PerWorker {
    pub(crate) connections: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) residents: AtomicU64,
    pub(crate) ready: AtomicU64,
    pub(crate) isolate_bytes: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) cells_leased: AtomicU64,
    pub(crate) cells_ready: AtomicU64,
    code_caches: Tally<&'static str>,
    starts: Tally<&'static str>,
    start_phases: Tally<&'static str, Totals>,
    /// Requests to the cache, by what it did with them.
    pub(crate) cached: Tally<&'static str>,
    /// Requests to the cache in front of functions, likewise.
    pub(crate) fronted: Tally<&'static str>,
    /// Requests by the place that was chosen for them and why, where there is a region.
    pub(crate) placed: Tally<(&'static str, &'static str)>,
    /// Requests to an origin that gave no response, by the code of the fault.
    pub(crate) unanswered: Tally<&'static str>,
}

impl Metrics {
    /// Counters of so many workers, with series of their own for at most `functions` functions.
    pub(crate) fn new(workers: usize, functions: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| PerWorker::default()).collect(),
            functions: Functions::new(workers, functions),
            polls: Tally::default(),
            lost: Tally::default(),
            cells_lost: Tally::default(),
        }
    }

    fn sum(&self, counter: impl Fn(&PerWorker) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| counter(worker).load(Ordering::Relaxed)).sum()
    }

    fn tally<V: count::Sum>(&self, tally: impl Fn(&PerWorker) -> &Tally<&'static str, V>) -> BTreeMap<&'static str, V> {
        Tally::sum(self.workers.iter().map(tally))
    }
}

impl PerWorker {
    /// A request waited for the start that another began, or for one that failed.
    pub(crate) fn waited(&self, took: Duration) {
        self.start_phases.add("waited", Totals::of(took));
    }

    /// A start of an isolate, with the phases that it went through.
    pub(crate) fn started(
        &self,
        pool: &'static str,
        code_cache: &'static str,
        phases: impl IntoIterator<Item = (&'static str, Duration)>,
    ) {
        self.starts.add(pool, 1);
        self.code_caches.add(code_cache, 1);
        phases.into_iter().for_each(|(phase, took)| self.start_phases.add(phase, Totals::of(took)));
    }
}

/// What a metric's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric. Everything that is said of it is said here.
pub(crate) struct Row {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&State, &mut Samples<'_>),
}

fn origins_of(state: &State, side: Side) -> Vec<std::sync::Arc<Origin>> {
    match side {
        Side::Shield => state.tier.shields(),
        Side::Region => state.regions.origins(),
        Side::Own | Side::Outside => state.origins.of(side),
    }
}

/// The budgets of functions that may have a label.
fn budgets(state: &State, mut show: impl FnMut(&str, &Shown)) {
    let budgets = state.budgets.lock().unwrap_or_else(PoisonError::into_inner);
    budgets.iter().take(state.metrics.functions.most()).for_each(|(function, shown)| show(function, shown));
}

/// Every metric, in the order in which they are shown.
pub(crate) const TABLE: &[Row] = &[
    Row {
        name: "skerry_requests_total",
        kind: Kind::Counter,
        labels: &["function", "outcome", "status"],
        help: "Requests by the code of their outcome, as x-skerry-error and the log have it, and the class of their \
               status. Function \"-\" is none, \"other\" all that have no label of their own. Health checks do not count.",
        read: |state, samples| {
            for series in state.metrics.functions.all() {
                series.requests().for_each(|((outcome, status), count)| {
                    samples.put(&[&series.name, outcome, status], count);
                });
            }
        },
    },
    Row {
        name: "skerry_request_duration_seconds",
        kind: Kind::Histogram,
        labels: &["function"],
        help: "Time from the end of a request's head to the head of its response.",
        read: |state, samples| {
            let series = state.metrics.functions.all();
            series.iter().for_each(|series| samples.histogram(&[&series.name], &series.took()));
        },
    },
    Row {
        name: "skerry_function_cpu_seconds_total",
        kind: Kind::Counter,
        labels: &["function"],
        help: "Processor time that functions used for requests, after the response too; starts are not in it.",
        read: |state, samples| {
            let series = state.metrics.functions.all();
            series.iter().for_each(|series| samples.put(&[&series.name], series.cpu().as_secs_f64()));
        },
    },
    Row {
        name: "skerry_function_failures_total",
        kind: Kind::Counter,
        labels: &["function", "code"],
        help: "Invocations that gave no response, also where the origin answered instead of the function.",
        read: |state, samples| {
            for series in state.metrics.functions.all() {
                series.failures().iter().for_each(|(code, count)| samples.put(&[&series.name, code], *count));
            }
        },
    },
    Row {
        name: "skerry_limit_broken_total",
        kind: Kind::Counter,
        labels: &["function", "limit"],
        help: "Requests that broke a limit, also where the client had its response already.",
        read: |state, samples| {
            for series in state.metrics.functions.all() {
                series.broken().iter().for_each(|(limit, count)| samples.put(&[&series.name, limit], *count));
            }
        },
    },
    Row {
        name: "skerry_isolates",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Isolates: ready ones wait for a function, resident ones hold one.",
        read: |state, samples| {
            samples.put(&["ready"], state.metrics.sum(|worker| &worker.ready));
            samples.put(&["resident"], state.metrics.sum(|worker| &worker.residents));
        },
    },
    Row {
        name: "skerry_isolate_memory_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Memory of the isolates that hold a function, as last measured.",
        read: |state, samples| samples.put(&[], state.metrics.sum(|worker| &worker.isolate_bytes)),
    },
    Row {
        name: "skerry_isolate_memory_max_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "The most that skerry_isolate_memory_bytes may be (--isolates).",
        read: |state, samples| samples.put(&[], state.isolate_bytes),
    },
    Row {
        name: "skerry_isolate_evictions_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Idle isolates given up because all took more memory, or were more, than they may.",
        read: |state, samples| samples.put(&[], state.metrics.sum(|worker| &worker.evicted)),
    },
    Row {
        name: "skerry_code_cache_total",
        kind: Kind::Counter,
        labels: &["result"],
        help: "Cold starts by what became of the code cache: used, absent, rejected by V8, tampered with, or of another engine. The last three are made anew.",
        read: |state, samples| {
            let results = state.metrics.tally(|worker| &worker.code_caches);
            results.iter().for_each(|(result, count)| samples.put(&[result], *count));
        },
    },
    Row {
        name: "skerry_isolate_starts_total",
        kind: Kind::Counter,
        labels: &["pool"],
        help: "Cold starts, by whether an isolate was ready or the pool was empty and one had to be made first.",
        read: |state, samples| {
            let starts = state.metrics.tally(|worker| &worker.starts);
            starts.iter().for_each(|(pool, count)| samples.put(&[pool], *count));
        },
    },
    Row {
        name: "skerry_isolate_start_duration_seconds",
        kind: Kind::Histogram,
        labels: &["phase"],
        help: "Time of cold starts, by phase. Waited is that of requests that waited for another's start.",
        read: |state, samples| {
            let phases = state.metrics.tally(|worker| &worker.start_phases);
            phases.iter().for_each(|(phase, totals)| samples.histogram(&[phase], totals));
        },
    },
    Row {
        name: "skerry_cache_requests_total",
        kind: Kind::Counter,
        labels: &["position", "outcome"],
        help: "Requests to the cache: in front of functions, and behind them (or where there is none), by what it did with them.",
        read: |state, samples| {
            let (front, behind) =
                (state.metrics.tally(|worker| &worker.fronted), state.metrics.tally(|worker| &worker.cached));
            for (position, outcomes) in [("front", front), ("behind", behind)] {
                outcomes.iter().for_each(|(outcome, count)| samples.put(&[position, outcome], *count));
            }
        },
    },
    Row {
        name: "skerry_placements_total",
        kind: Kind::Counter,
        labels: &["place", "reason"],
        help: "Requests for functions by where they were sent (edge, region or refused) and why, as Server-Timing and the log have it. One that is run again counts in both places. Only where the PoP has a region (--region).",
        read: |state, samples| {
            let placed = Tally::sum(state.metrics.workers.iter().map(|worker| &worker.placed));
            placed.iter().for_each(|((place, reason), count)| samples.put(&[place, reason], *count));
        },
    },
    Row {
        name: "skerry_origin_failures_total",
        kind: Kind::Counter,
        labels: &["code"],
        help: "Requests behind the cache that got no response, whether or not the function could do without.",
        read: |state, samples| {
            let failures = state.metrics.tally(|worker| &worker.unanswered);
            failures.iter().for_each(|(code, count)| samples.put(&[code], *count));
        },
    },
    Row {
        name: "skerry_origin_requests",
        kind: Kind::Gauge,
        labels: &["origin", "state"],
        help: "Requests to origins: in-use ones are under way, each with a connection of its own over HTTP/1, waiting ones wait for their turn. Origin \"own\" is the PoP's, \"outside\" all that functions name, \"shield\" the PoPs that are asked in its place, \"region\" the nodes that run functions in this PoP's place.",
        read: |state, samples| {
            for side in Side::ALL {
                let origins = origins_of(state, side);
                let sum = |count: fn(&Gate) -> usize| origins.iter().map(|origin| count(origin.gate())).sum::<usize>();
                samples.put(&[side.as_str(), "in-use"], sum(Gate::in_use));
                samples.put(&[side.as_str(), "waiting"], sum(Gate::waiting));
            }
        },
    },
    Row {
        name: "skerry_origin_requests_max",
        kind: Kind::Gauge,
        labels: &["bound"],
        help: "The most that may be in use: with one origin (--origin-requests), and with all (--requests-out).",
        read: |state, samples| {
            samples.put(&["origin"], state.protection.origin_requests);
            samples.put(&["all"], state.protection.requests);
        },
    },
    Row {
        name: "skerry_origin_requests_all",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Requests that count for --requests-out, by whether they are under way or wait for others than their origin's.",
        read: |state, samples| {
            samples.put(&["in-use"], state.origins.overall().in_use());
            samples.put(&["waiting"], state.origins.overall().waiting());
        },
    },
    Row {
        name: "skerry_origin_connections",
        kind: Kind::Gauge,
        labels: &["origin"],
        help: "Connections to origins that are open, in use or idle.",
        read: |state, samples| {
            for side in Side::ALL {
                samples.put(&[side.as_str()], state.origins.counts(side).connections.load(Ordering::Relaxed));
            }
        },
    },
    Row {
        name: "skerry_origin_answer_duration_seconds",
        kind: Kind::Histogram,
        labels: &["origin"],
        help: "Time from sending a request to the head of its response.",
        read: |state, samples| {
            for side in Side::ALL {
                samples.histogram(&[side.as_str()], &state.origins.counts(side).answered.totals());
            }
        },
    },
    Row {
        name: "skerry_origin_exchange_failures_total",
        kind: Kind::Counter,
        labels: &["origin", "code"],
        help: "Requests to origins without a response, by the code of the fault. One may stand for many clients that waited for it.",
        read: |state, samples| {
            for side in Side::ALL {
                let failures = Tally::sum([&state.origins.counts(side).failures]);
                failures.iter().for_each(|(code, count)| samples.put(&[side.as_str(), code], *count));
            }
        },
    },
    Row {
        name: "skerry_origin_retries_total",
        kind: Kind::Counter,
        labels: &["origin", "reason"],
        help: "Requests sent again: no connection came about (connect), or a kept one was closed before a byte came back (closed). No-budget ones were not.",
        read: |state, samples| {
            for side in Side::ALL {
                let retries = Tally::sum([&state.origins.counts(side).retries]);
                retries.iter().for_each(|(reason, count)| samples.put(&[side.as_str(), reason], *count));
            }
        },
    },
    Row {
        name: "skerry_shield_detours_total",
        kind: Kind::Counter,
        labels: &["reason"],
        help: "Requests that went to the origin past their shield: it is left alone for a while (open), failed (failed), or cannot serve (unable).",
        read: |state, samples| {
            let detours = Tally::sum([&state.origins.counts(Side::Shield).detours]);
            detours.iter().for_each(|(reason, count)| samples.put(&[reason], *count));
        },
    },
    Row {
        name: "skerry_origin_retry_budget",
        kind: Kind::Gauge,
        labels: &["origin"],
        help: "Retries that the origin may still be sent at once; outside, the least that one has left.",
        read: |state, samples| {
            for side in Side::ALL {
                let left = origins_of(state, side).into_iter().map(|origin| origin.budget.left(state.millis()));
                samples.known_of(&[side.as_str()], left.reduce(f64::min));
            }
        },
    },
    Row {
        name: "skerry_origin_breakers",
        kind: Kind::Gauge,
        labels: &["origin", "state"],
        help: "Origins by the state of their circuit breakers: while one is open, or half-open for a probe, the origin is left alone.",
        read: |state, samples| {
            for side in Side::ALL {
                let origins = origins_of(state, side);
                for phase in Phase::ALL {
                    let count = origins.iter().filter(|origin| origin.breaker.phase(state.millis()) == phase).count();
                    samples.put(&[side.as_str(), phase.as_str()], count);
                }
            }
        },
    },
    Row {
        name: "skerry_origin_breaker_opened_total",
        kind: Kind::Counter,
        labels: &["origin"],
        help: "Times that a circuit breaker opened because its origin failed.",
        read: |state, samples| {
            for side in Side::ALL {
                samples.put(&[side.as_str()], state.origins.counts(side).opened.load(Ordering::Relaxed));
            }
        },
    },
    Row {
        name: "skerry_cache_entries",
        kind: Kind::Gauge,
        labels: &[],
        help: "Responses in the cache.",
        read: |state, samples| {
            // Else the counts of a quiet PoP would wait for its next requests.
            state.cache.run_pending();
            samples.put(&[], state.cache.entries());
        },
    },
    Row {
        name: "skerry_cache_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Memory of the responses in the cache.",
        read: |state, samples| samples.put(&[], state.cache.bytes()),
    },
    Row {
        name: "skerry_cache_capacity_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "The most that skerry_cache_bytes may be (--cache).",
        read: |state, samples| samples.put(&[], state.cache_bytes),
    },
    Row {
        name: "skerry_purge_number",
        kind: Kind::Gauge,
        labels: &[],
        help: "Number of the last purge in force here; 0 before the purge log was reached.",
        read: |state, samples| samples.put(&[], state.cache.purged()),
    },
    Row {
        name: "skerry_purge_lag_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Time since this PoP last knew to have every purge. A poll takes up to 5 seconds where there is none.",
        read: |state, samples| samples.put(&[], state.purges.lag(state.millis()).as_secs_f64()),
    },
    Row {
        name: "skerry_purge_fenced",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 while stored responses are validated before they are sent, because the purge log is out of reach (--purge-fence).",
        read: |state, samples| samples.put(&[], u8::from(state.purges.is_fenced())),
    },
    Row {
        name: "skerry_purges_total",
        kind: Kind::Counter,
        labels: &["scope", "mode"],
        help: "Purges put in force here, those of a replay included. Scope beyond-log is everything, because the log does not reach back far enough.",
        read: |state, samples| {
            let applied = Tally::sum([&state.purges.applied]);
            applied.iter().for_each(|((scope, mode), count)| samples.put(&[scope, mode], *count));
        },
    },
    Row {
        name: "skerry_purge_rules",
        kind: Kind::Gauge,
        labels: &[],
        help: "Purges that the cache tells apart; past 65536, the older half becomes one that covers everything before it.",
        read: |state, samples| samples.put(&[], state.cache.purge_rules()),
    },
    Row {
        name: "skerry_purge_log_length",
        kind: Kind::Gauge,
        labels: &[],
        help: "Purges in the log, as it told last. It keeps 10000 for 7 days, in 16 MiB.",
        read: |state, samples| samples.put(&[], state.purges.log_length.load(Ordering::Relaxed)),
    },
    Row {
        name: "skerry_purge_polls_total",
        kind: Kind::Counter,
        labels: &["result"],
        help: "Polls of the purge log: ok or failed.",
        read: |state, samples| {
            let polls = Tally::sum([&state.purges.polls]);
            polls.iter().for_each(|(result, count)| samples.put(&[result], *count));
        },
    },
    Row {
        name: "skerry_purge_pushes_total",
        kind: Kind::Counter,
        labels: &["result"],
        help: "Messages about purges over NATS (--nats): ok, gap where one before it was missed, or refused: not sealed with this fleet's token.",
        read: |state, samples| {
            let pushes = Tally::sum([&state.purges.pushes]);
            pushes.iter().for_each(|(result, count)| samples.put(&[result], *count));
        },
    },
    Row {
        name: "skerry_cache_disk_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of the responses that the cache has on disk.",
        read: |state, samples| samples.put(&[], state.cache.disk().unwrap_or_default().bytes),
    },
    Row {
        name: "skerry_cache_disk_capacity_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "The most that skerry_cache_disk_bytes may be (--cache-disk); 0 without a disk.",
        read: |state, samples| samples.put(&[], state.cache.disk().unwrap_or_default().capacity_bytes),
    },
    Row {
        name: "skerry_cache_disk_entries",
        kind: Kind::Gauge,
        labels: &[],
        help: "Responses that the cache has on disk; 1000000 at most.",
        read: |state, samples| samples.put(&[], state.cache.disk().unwrap_or_default().files),
    },
    Row {
        name: "skerry_cache_disk_queued_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of responses that wait to be written to disk; 64 MiB at most, what comes then stays in memory only.",
        read: |state, samples| samples.put(&[], state.cache.disk().unwrap_or_default().queued_bytes),
    },
    Row {
        name: "skerry_cache_disk_failing",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 while the cache's disk fails (full, read-only, broken) and responses are stored in memory only; the log says why.",
        read: |state, samples| samples.put(&[], u64::from(state.cache.disk().unwrap_or_default().failing)),
    },
    Row {
        name: "skerry_cache_disk_events_total",
        kind: Kind::Counter,
        labels: &["event"],
        help: "What happened on the cache's disk: responses hit (found), written, skipped (kept in memory only), damaged (removed), and errors of the disk.",
        read: |state, samples| {
            let disk = state.cache.disk().unwrap_or_default();
            samples.put(&["hit"], disk.hits);
            samples.put(&["written"], disk.written);
            samples.put(&["skipped"], disk.skipped);
            samples.put(&["damaged"], disk.damaged);
            samples.put(&["error"], disk.errors);
        },
    },
    Row {
        name: "skerry_connections",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections of clients; each worker takes 10000 at most.",
        read: |state, samples| samples.put(&[], state.metrics.sum(|worker| &worker.connections)),
    },
    Row {
        name: "skerry_requests_in_flight",
        kind: Kind::Gauge,
        labels: &[],
        help: "Requests under way, to the last byte of the answer and of what runs after it.",
        read: |state, samples| samples.put(&[], state.load.now()),
    },
    Row {
        name: "skerry_requests_in_flight_mean",
        kind: Kind::Gauge,
        labels: &["window"],
        help: "Their mean over a minute (stable) and six seconds (panic): what replicas are to be counted by.",
        read: |state, samples| {
            let means = state.load.means(state.micros());
            for (window, mean) in ["stable", "panic"].into_iter().zip(means) {
                if let Some(mean) = mean {
                    samples.put(&[window], mean);
                }
            }
        },
    },
    Row {
        name: "skerry_requests_in_flight_seconds_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Request-seconds under way: its rate is the mean in flight over any window.",
        read: |state, samples| samples.put(&[], Duration::from_micros(state.load.sum(state.micros())).as_secs_f64()),
    },
    Row {
        name: "skerry_received_bytes_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Bytes read from clients, heads and framing included.",
        read: |state, samples| samples.put(&[], state.metrics.sum(|worker| &worker.received)),
    },
    Row {
        name: "skerry_sent_bytes_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Bytes written to clients, heads and framing included.",
        read: |state, samples| samples.put(&[], state.metrics.sum(|worker| &worker.sent)),
    },
    Row {
        name: "skerry_workers_lost_total",
        kind: Kind::Counter,
        labels: &["cause"],
        help: "Workers that a function cost this PoP, each replaced: stuck in a call that cannot be interrupted, or ended by V8.",
        read: |state, samples| {
            let lost = Tally::sum([&state.metrics.lost]);
            lost.iter().for_each(|(cause, count)| samples.put(&[cause], *count));
        },
    },
    Row {
        name: "skerry_cells",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Processes that run functions: leased ones belong to a tenant, ready ones wait for one.",
        read: |state, samples| {
            samples.put(&["leased"], state.metrics.sum(|worker| &worker.cells_leased));
            samples.put(&["ready"], state.metrics.sum(|worker| &worker.cells_ready));
        },
    },
    Row {
        name: "skerry_cells_lost_total",
        kind: Kind::Counter,
        labels: &["cause"],
        help: "Cells that a function cost this PoP: for the causes of skerry_workers_lost_total, ended by the kernel or by hand, or for misconduct.",
        read: |state, samples| {
            let lost = Tally::sum([&state.metrics.cells_lost]);
            lost.iter().for_each(|(cause, count)| samples.put(&[cause], *count));
        },
    },
    Row {
        name: "skerry_functions_apart",
        kind: Kind::Gauge,
        labels: &[],
        help: "Functions that run in processes of their own for a while, because they held up others.",
        read: |state, samples| {
            let routes = state.routes.load();
            let functions = routes.live.values().filter_map(|(_, live)| live.function());
            samples.put(&[], functions.filter(|function| function.heavy.is_now(|| state.millis())).count() as u64);
        },
    },
    Row {
        name: "skerry_functions_quarantined",
        kind: Kind::Gauge,
        labels: &[],
        help: "Versions in quarantine here, old ones among them.",
        read: |state, samples| samples.put(&[], state.strikes.quarantined()),
    },
    Row {
        name: "skerry_manifest_generation",
        kind: Kind::Gauge,
        labels: &[],
        help: "Generation of the manifest that is live here; 0 before there is one.",
        read: |state, samples| samples.put(&[], state.routes.load().generation),
    },
    Row {
        name: "skerry_functions",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Functions of the manifest: live, or damaged: this PoP has no version of it that it can run.",
        read: |state, samples| {
            let routes = state.routes.load();
            let live = routes.live.values().filter(|(_, live)| live.is_sound()).count();
            samples.put(&["live"], live);
            samples.put(&["damaged"], routes.live.len() - live);
        },
    },
    Row {
        name: "skerry_control_polls_total",
        kind: Kind::Counter,
        labels: &["result"],
        help: "Polls of the control API: ok, failed, or not-applied where a manifest came that could not be made live whole yet.",
        read: |state, samples| {
            let polls = Tally::sum([&state.metrics.polls]);
            polls.iter().for_each(|(result, count)| samples.put(&[result], *count));
        },
    },
    Row {
        name: "skerry_budget_spent_ratio",
        kind: Kind::Gauge,
        labels: &["function"],
        help: "Share of a function's budget that is spent in this period, on all PoPs.",
        read: |state, samples| budgets(state, |function, it| samples.put(&[function], it.spent)),
    },
    Row {
        name: "skerry_budget_limit_per_second",
        kind: Kind::Gauge,
        labels: &["function"],
        help: "Requests a second that the brake of a function's budget lets through on this PoP, while it acts.",
        read: |state, samples| budgets(state, |function, it| samples.known_of(&[function], it.limit)),
    },
    Row {
        name: "skerry_budget_alerts_total",
        kind: Kind::Counter,
        labels: &["function"],
        help: "Thresholds of a function's budget that this PoP was the first to see passed.",
        read: |state, samples| budgets(state, |function, it| samples.put(&[function], it.alerts)),
    },
    Row {
        name: "skerry_meter_undelivered_rows",
        kind: Kind::Gauge,
        labels: &[],
        help: "Rows of usage that are on disk and have not arrived at the origin, as far as known.",
        read: |state, samples| samples.put(&[], state.meter.undelivered.load(Ordering::Relaxed)),
    },
    Row {
        name: "skerry_function_labels",
        kind: Kind::Gauge,
        labels: &[],
        help: "Functions that have a label of their own here: those that were asked for first.",
        read: |state, samples| samples.put(&[], state.metrics.functions.labels()),
    },
    Row {
        name: "skerry_function_labels_max",
        kind: Kind::Gauge,
        labels: &[],
        help: "The most that skerry_function_labels may be (--metrics-functions).",
        read: |state, samples| samples.put(&[], state.metrics.functions.most()),
    },
    Row {
        name: "skerry_build_info",
        kind: Kind::Gauge,
        labels: &["version", "pop"],
        help: "Always 1.",
        read: |state, samples| samples.put(&[env!("CARGO_PKG_VERSION"), &state.name], 1),
    },
    Row {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Processor time of the process, in user and in system mode.",
        read: |_, samples| samples.put(&[], process::cpu().as_secs_f64()),
    },
    Row {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Memory that the process holds.",
        read: |_, samples| samples.known(process::resident_bytes()),
    },
    Row {
        name: "process_open_fds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Open file descriptors.",
        read: |_, samples| samples.known(process::open_descriptors()),
    },
    Row {
        name: "process_max_fds",
        kind: Kind::Gauge,
        labels: &[],
        help: "The most that process_open_fds may be.",
        read: |_, samples| samples.known(process::most_descriptors()),
    },
    Row {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the process started, in seconds since 1970.",
        read: |state, samples| samples.put(&[], state.started_at),
    },
];
