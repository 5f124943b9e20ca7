//! How PoPs spare origins: the flags that `skerry pop` and `skerry up` share.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use crate::units;

/// The flags. Their defaults are those of [`pop::Protection`].
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sparing origins")]
pub(crate) struct ProtectionArgs {
    /// Requests of a PoP under way at a time with one origin; over HTTP/1 each has a connection
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    origin_requests: u32,
    /// The same with all origins together
    #[arg(long, value_name = "COUNT", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests_out: u32,
    /// How long a request to an origin waits for its turn when as many are under way as may be; then it is answered with 503
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = units::duration)]
    origin_wait: Duration,
    /// How long an origin may take for the head of a response; then the request is answered with 504
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    origin_timeout: Duration,
    /// How often an idempotent request without a body is sent again at most when it got no connection, or a kept one that was
    /// closed. All together, retries are no more than a fifth of the requests and five a second
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=10))]
    retries: u32,
    /// How long 404, 405, 410, 414 and 501 count as fresh where they do not say so themselves; 0s for not at all
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration)]
    negative_ttl: Duration,
    /// How long past its lifetime a response is sent when the origin fails, where it does not say so itself
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = units::duration)]
    stale_if_error: Duration,
}

impl ProtectionArgs {
    /// What a PoP is told.
    pub(crate) fn protection(&self) -> pop::Protection {
        pop::Protection {
            origin_requests: self.origin_requests as usize,
            requests: self.requests_out as usize,
            wait: self.origin_wait,
            head_timeout: self.origin_timeout,
            retries: self.retries,
            negative_ttl: self.negative_ttl,
            stale_if_error: self.stale_if_error,
        }
    }

    /// The same as arguments of `skerry pop`.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let time = |time: Duration| format!("{}us", time.as_micros());
        [
            ("--origin-requests", self.origin_requests.to_string()),
            ("--requests-out", self.requests_out.to_string()),
            ("--origin-wait", time(self.origin_wait)),
            ("--origin-timeout", time(self.origin_timeout)),
            ("--retries", self.retries.to_string()),
            ("--negative-ttl", time(self.negative_ttl)),
            ("--stale-if-error", time(self.stale_if_error)),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.into(), value.into()])
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        protection: ProtectionArgs,
    }

    fn read(arguments: &[OsString]) -> ProtectionArgs {
        let line = std::iter::once(OsString::from("x")).chain(arguments.iter().cloned());
        Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).protection
    }

    #[test]
    fn the_defaults_are_those_of_a_pop() {
        assert_eq!(read(&[]).protection(), pop::Protection::default());
    }

    #[test]
    fn what_up_is_told_its_pops_are_told() {
        let told = ["--origin-requests=3", "--origin-timeout=250ms", "--negative-ttl=1.5s", "--retries=0"];
        let told = read(&told.map(OsString::from));
        assert_eq!(read(&told.arguments()).protection(), told.protection());
        assert_eq!(told.protection().head_timeout, Duration::from_millis(250));
    }
}
