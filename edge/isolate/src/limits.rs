//! The one table of limits. Everything that names a limit (project files, errors, headers, logs, the test list) reads it here.

// Named, since build.rs takes this file in from elsewhere.
#[path = "limits/profile.rs"]
mod profile;

use std::time::Duration;

pub use profile::{PROFILES, Profile};

/// What a function may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Processor time of one request.
    Cpu,
    /// Processor time of a start: evaluating the top level of the modules.
    Startup,
    /// Time from a request's arrival to its response head.
    Wall,
    /// JavaScript heap of one isolate.
    Heap,
    /// `ArrayBuffer` bytes of one isolate, outside the heap.
    Buffers,
    /// WebAssembly memories and modules of one isolate, outside the heap.
    Wasm,
    /// Stack of JavaScript: how deep calls may go.
    Stack,
    /// `fetch()` calls of one request, and calls of `caches`.
    Subrequests,
    /// Of those, how many wait for their response at the same time.
    Connections,
    /// Timers, reads, writes and calls of one request that are pending at the same time.
    Pending,
    /// Bytes of a request body.
    RequestBody,
    /// Bytes of a response body.
    ResponseBody,
    /// Bytes of the header fields that a function writes: of its response, and of each `fetch()`.
    Headers,
    /// Requests of one function in flight in one worker.
    Concurrency,
    /// Time that `waitUntil` promises may go on after the response.
    WaitUntil,
    /// Bytes that one request may log.
    Log,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// A number of things.
    Count,
}

/// What happens when a limit is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The request fails with this status, and the row's code is the error.
    Fails(u16),
    /// What is over the limit waits until there is room.
    Waits,
    /// What goes on after the response is given up, which the function's log says.
    GivenUp,
    /// The rest is left out, which the function's log says.
    CutOff,
}

/// One row of [`TABLE`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which limit.
    pub limit: Limit,
    /// Key under `limits` in a project file.
    pub key: &'static str,
    /// Unit of `min`, `default` and `max`.
    pub unit: Unit,
    /// The least a project file may ask for. Where it is also the most, V8 has one value for a whole process.
    pub min: u64,
    /// What a function gets that asks for nothing.
    pub default: u64,
    /// The most a PoP gives.
    pub max: u64,
    /// The most a region node gives.
    pub region: u64,
    /// What happens to a request that breaks the limit.
    pub broken: Broken,
    /// Error code, log field and metric label.
    pub code: &'static str,
    /// One line for people.
    pub doc: &'static str,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Every limit, in the order of [`Limit`].
#[rustfmt::skip]
pub const TABLE: [Row; 16] = {
    use Broken::{CutOff, Fails, GivenUp, Waits};
    use Unit::{Bytes, Count, Milliseconds};
    [
        row(Limit::Cpu, "cpu_ms", Milliseconds, [1, 50, 30_000, 900_000], Fails(500), "limit/cpu", "processor time of one request"),
        row(Limit::Startup, "startup_ms", Milliseconds, [1, 400, 5_000, 5_000], Fails(500), "limit/startup", "processor time of a start"),
        row(Limit::Wall, "wall_ms", Milliseconds, [1, 30_000, 300_000, 900_000], Fails(504), "limit/wall", "time until the response head"),
        row(Limit::Heap, "heap_bytes", Bytes, [8 * MIB, 128 * MIB, 512 * MIB, 4_096 * MIB], Fails(500), "limit/heap", "JavaScript heap of one isolate"),
        row(Limit::Buffers, "buffer_bytes", Bytes, [64 * KIB, 64 * MIB, 512 * MIB, 4_096 * MIB], Fails(500), "limit/buffers", "ArrayBuffer bytes of one isolate"),
        row(Limit::Wasm, "wasm_bytes", Bytes, [64 * KIB, 64 * MIB, 512 * MIB, 512 * MIB], Fails(500), "limit/wasm", "WebAssembly memories and modules of one isolate"),
        row(Limit::Stack, "stack_bytes", Bytes, [984 * KIB, 984 * KIB, 984 * KIB, 984 * KIB], Fails(500), "limit/stack", "stack of JavaScript calls"),
        row(Limit::Subrequests, "subrequests", Count, [0, 50, 10_000, 10_000], Fails(500), "limit/subrequests", "calls of fetch(), caches and ctx.cache.purge() of one request"),
        row(Limit::Connections, "connections", Count, [1, 6, 64, 64], Waits, "limit/connections", "subrequests of one request that await their response head at once"),
        row(Limit::Pending, "pending", Count, [1, 10_000, 50_000, 50_000], Fails(500), "limit/pending", "timers and operations of one request under way at once"),
        row(Limit::RequestBody, "request_body_bytes", Bytes, [1, 100 * MIB, 5_120 * MIB, 5_120 * MIB], Fails(413), "limit/request-body", "bytes of a request body"),
        row(Limit::ResponseBody, "response_body_bytes", Bytes, [1, 1_024 * MIB, 5_120 * MIB, 5_120 * MIB], Fails(500), "limit/response-body", "bytes of a response body"),
        row(Limit::Headers, "header_bytes", Bytes, [64, 128 * KIB, 128 * KIB, 128 * KIB], Fails(500), "limit/headers", "header fields of a response or a fetch()"),
        row(Limit::Concurrency, "concurrency", Count, [1, 1_000, 10_000, 10_000], Fails(503), "limit/concurrency", "requests of one function in flight in a worker"),
        row(Limit::WaitUntil, "wait_until_ms", Milliseconds, [1, 30_000, 300_000, 300_000], GivenUp, "limit/wait-until", "time for waitUntil after the response"),
        row(Limit::Log, "log_bytes", Bytes, [1, 64 * KIB, MIB, MIB], CutOff, "limit/log", "bytes that one request may log"),
    ]
};

const fn row(
    limit: Limit,
    key: &'static str,
    unit: Unit,
    [min, default, max, region]: [u64; 4],
    broken: Broken,
    code: &'static str,
    doc: &'static str,
) -> Row {
    Row { limit, key, unit, min, default, max, region, broken, code, doc }
}

impl Limit {
    /// This limit's row.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

impl Row {
    /// Status of the response to a request that breaks the limit.
    pub const fn status(&self) -> u16 {
        match self.broken {
            Broken::Fails(status) => status,
            Broken::Waits | Broken::GivenUp | Broken::CutOff => 500,
        }
    }

    /// Whether a function can have another value than the default.
    pub const fn is_fixed(&self) -> bool {
        self.min == self.max
    }
}

/// The limits of one function: the defaults, and what its project file changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits([u64; TABLE.len()]);

impl Default for Limits {
    fn default() -> Self {
        Self(TABLE.map(|row| row.default))
    }
}

impl Limits {
    /// The defaults with `changes` by key, in each row's unit. A value above the row's maximum is cut to it: a version may
    /// ask for more than a PoP gives.
    ///
    /// # Errors
    /// The first key that no row has, or a value below the row's minimum.
    pub fn with<'a>(changes: impl IntoIterator<Item = (&'a str, u64)>) -> Result<Self, String> {
        Self::up_to(|row| row.max, changes)
    }

    /// As [`Limits::with`], on a region node: cut to what that may give at most.
    ///
    /// # Errors
    /// As [`Limits::with`].
    pub fn in_region<'a>(changes: impl IntoIterator<Item = (&'a str, u64)>) -> Result<Self, String> {
        Self::up_to(|row| row.region, changes)
    }

    fn up_to<'a>(most: fn(&Row) -> u64, changes: impl IntoIterator<Item = (&'a str, u64)>) -> Result<Self, String> {
        let mut limits = Self::default();
        for (key, value) in changes {
            let row = TABLE.iter().find(|row| row.key == key).ok_or_else(|| format!("there is no limit {key:?}"))?;
            if value < row.min {
                return Err(format!("limit {key:?} must be at least {}", row.min));
            }
            limits.0[row.limit as usize] = value.min(most(row));
        }
        Ok(limits)
    }

    /// The value of a limit in its row's unit.
    pub const fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// Every value by its key, as [`Limits::with`] takes them.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TABLE.iter().map(|row| (row.key, self.get(row.limit)))
    }

    /// The value of a limit that is counted in milliseconds.
    pub const fn time(&self, limit: Limit) -> Duration {
        Duration::from_millis(self.get(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.limit as usize, i, "{}", row.key);
            assert!(row.min <= row.default && row.default <= row.max && row.max <= row.region, "{}", row.key);
        }
    }

    #[test]
    fn unknown_and_too_low_limits_are_refused_and_high_ones_cut() {
        assert!(Limits::with([("cpu", 1)]).is_err());
        assert!(Limits::with([("cpu_ms", 0)]).is_err());
        assert!(Limits::with([("heap_bytes", 65_536)]).is_err());
        assert_eq!(Limits::with([("subrequests", 0)]).unwrap().get(Limit::Subrequests), 0);
        assert_eq!(Limits::with([("cpu_ms", u64::MAX)]).unwrap().get(Limit::Cpu), 30_000);
        assert_eq!(Limits::in_region([("cpu_ms", u64::MAX)]).unwrap().get(Limit::Cpu), 900_000);
    }
}
