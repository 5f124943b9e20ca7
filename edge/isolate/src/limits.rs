//! The one table of limits. Everything that names a limit (project files, errors, headers, logs, the test list) reads it here.

use std::time::Duration;

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
    /// `fetch()` calls of one request.
    Subrequests,
    /// Bytes of a request body.
    RequestBody,
    /// Bytes of a response body.
    ResponseBody,
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

/// One row of [`TABLE`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which limit.
    pub limit: Limit,
    /// Key under `limits` in a project file.
    pub key: &'static str,
    /// Unit of `default` and `max`.
    pub unit: Unit,
    /// What a function gets that asks for nothing.
    pub default: u64,
    /// The most a project file may ask for.
    pub max: u64,
    /// Status of the response when a request breaks the limit.
    pub status: u16,
    /// Error code, log field and metric label.
    pub code: &'static str,
    /// One line for people.
    pub doc: &'static str,
}

const MIB: u64 = 1 << 20;

/// Every limit, in the order of [`Limit`].
pub const TABLE: [Row; 11] = [
    row(Limit::Cpu, "cpu_ms", Unit::Milliseconds, 50, 30_000, 500, "limit/cpu", "processor time of one request"),
    row(
        Limit::Startup,
        "startup_ms",
        Unit::Milliseconds,
        400,
        5_000,
        500,
        "limit/startup",
        "processor time of a start",
    ),
    row(Limit::Wall, "wall_ms", Unit::Milliseconds, 30_000, 300_000, 504, "limit/wall", "time until the response head"),
    row(
        Limit::Heap,
        "heap_bytes",
        Unit::Bytes,
        128 * MIB,
        512 * MIB,
        500,
        "limit/heap",
        "JavaScript heap of one isolate",
    ),
    row(
        Limit::Buffers,
        "buffer_bytes",
        Unit::Bytes,
        64 * MIB,
        512 * MIB,
        500,
        "limit/buffers",
        "ArrayBuffer and WebAssembly bytes of one isolate",
    ),
    row(
        Limit::Subrequests,
        "subrequests",
        Unit::Count,
        50,
        1_000,
        500,
        "limit/subrequests",
        "fetch() calls of one request",
    ),
    row(
        Limit::RequestBody,
        "request_body_bytes",
        Unit::Bytes,
        100 * MIB,
        5_120 * MIB,
        413,
        "limit/request-body",
        "bytes of a request body",
    ),
    row(
        Limit::ResponseBody,
        "response_body_bytes",
        Unit::Bytes,
        1_024 * MIB,
        5_120 * MIB,
        500,
        "limit/response-body",
        "bytes of a response body",
    ),
    row(
        Limit::Concurrency,
        "concurrency",
        Unit::Count,
        1_000,
        10_000,
        503,
        "limit/concurrency",
        "requests of one function in flight in a worker",
    ),
    row(
        Limit::WaitUntil,
        "wait_until_ms",
        Unit::Milliseconds,
        30_000,
        300_000,
        500,
        "limit/wait-until",
        "time for waitUntil after the response",
    ),
    row(Limit::Log, "log_bytes", Unit::Bytes, 65_536, MIB, 200, "limit/log", "bytes that one request may log"),
];

#[expect(clippy::too_many_arguments, reason = "a table row reads best on one line")]
const fn row(
    limit: Limit,
    key: &'static str,
    unit: Unit,
    default: u64,
    max: u64,
    status: u16,
    code: &'static str,
    doc: &'static str,
) -> Row {
    Row { limit, key, unit, default, max, status, code, doc }
}

impl Limit {
    /// This limit's row.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
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
    /// The defaults with `changes` by key, in each row's unit. A value above the row's maximum is cut to it.
    ///
    /// # Errors
    /// The first key that no row has, or a value of zero.
    pub fn with<'a>(changes: impl IntoIterator<Item = (&'a str, u64)>) -> Result<Self, String> {
        let mut limits = Self::default();
        for (key, value) in changes {
            let row = TABLE.iter().find(|row| row.key == key).ok_or_else(|| format!("there is no limit {key:?}"))?;
            if value == 0 {
                return Err(format!("limit {key:?} must be above 0"));
            }
            limits.0[row.limit as usize] = value.min(row.max);
        }
        Ok(limits)
    }

    /// The value of a limit in its row's unit.
    pub const fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
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
            assert!(row.default <= row.max, "{}", row.key);
        }
    }

    #[test]
    fn unknown_and_zero_limits_are_refused_and_high_ones_cut() {
        assert!(Limits::with([("cpu", 1)]).is_err());
        assert!(Limits::with([("cpu_ms", 0)]).is_err());
        assert_eq!(Limits::with([("cpu_ms", u64::MAX)]).unwrap().get(Limit::Cpu), 30_000);
    }
}
