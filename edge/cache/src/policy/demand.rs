//! The cache directives of a request (RFC 9111 section 5.2.1).

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

use super::control::{Argument, directives};
use super::{ClientControl, list};

/// What a client asks of the cache, after [`ClientControl`] decided what counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demand {
    /// `no-cache` (section 5.2.1.4), or `Pragma: no-cache` without `Cache-Control` (section 5.4).
    pub no_cache: bool,
    /// `no-store` (section 5.2.1.5).
    pub no_store: bool,
    /// `only-if-cached` (section 5.2.1.7).
    pub only_if_cached: bool,
    /// `max-age` (section 5.2.1.1).
    pub max_age: Option<Duration>,
    /// `min-fresh` (section 5.2.1.3).
    pub min_fresh: Option<Duration>,
    /// `max-stale` (section 5.2.1.2); without a value it is as long as can be.
    pub max_stale: Option<Duration>,
}

impl Demand {
    /// What this request asks.
    pub fn of_request(headers: &HeaderMap, client_control: ClientControl) -> Self {
        // The common request has neither field: no work for it.
        if !headers.contains_key(CACHE_CONTROL) && !headers.contains_key(PRAGMA) {
            return Self::default();
        }
        let mut demand = Self::default();
        for (name, argument) in directives(headers) {
            demand.apply(&name, &argument);
        }
        if !headers.contains_key(CACHE_CONTROL) {
            demand.no_cache = list::members(headers, &PRAGMA).any(|pragma| pragma.eq_ignore_ascii_case(b"no-cache"));
        }
        match client_control {
            ClientControl::Honour => demand,
            ClientControl::Ignore => Self { only_if_cached: demand.only_if_cached, ..Self::default() },
        }
    }

    fn apply(&mut self, name: &str, argument: &Argument) {
        match name {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => self.max_age = self.max_age.or(argument.seconds()),
            "min-fresh" => self.min_fresh = self.min_fresh.or(argument.seconds()),
            "max-stale" if *argument == Argument::None => self.max_stale = self.max_stale.or(Some(Duration::MAX)),
            "max-stale" => self.max_stale = self.max_stale.or(argument.seconds()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(name: &'static str, value: &'static str, client_control: ClientControl) -> Demand {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Demand::of_request(&headers, client_control)
    }

    #[test]
    fn a_cdn_obeys_only_if_cached_and_nothing_else() {
        let all = "no-cache, no-store, max-age=0, min-fresh=9, max-stale, only-if-cached";
        let ignored = demand("cache-control", all, ClientControl::Ignore);
        assert_eq!(ignored, Demand { only_if_cached: true, ..Demand::default() });
        let honoured = demand("cache-control", all, ClientControl::Honour);
        assert!(honoured.no_cache && honoured.no_store && honoured.only_if_cached);
        assert_eq!((honoured.max_age, honoured.max_stale), (Some(Duration::ZERO), Some(Duration::MAX)));
    }

    #[test]
    fn pragma_counts_only_where_cache_control_is_absent() {
        assert!(demand("pragma", "no-cache", ClientControl::Honour).no_cache);
        let mut headers = HeaderMap::new();
        headers.insert("pragma", "no-cache".parse().unwrap());
        headers.insert("cache-control", "max-age=9".parse().unwrap());
        assert!(!Demand::of_request(&headers, ClientControl::Honour).no_cache);
    }
}
