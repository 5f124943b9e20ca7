//! May a stored response be sent without asking the origin (RFC 9111 sections 4 and 4.2.4, RFC 5861)?

use std::time::Duration;

use super::{Control, Demand, Rules, Scope};

/// What may be done with a stored response now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Send it.
    Fresh,
    /// Send it, and ask the origin behind the client's back (RFC 5861 section 3).
    StaleWhileRevalidate,
    /// Send it, because this client accepts a stale one (section 5.2.1.2).
    StaleAccepted,
    /// Ask the origin first: it is stale.
    Stale,
    /// Ask the origin first: it is fresh, but this client or a `no-cache` wants it validated.
    Unvalidated,
}

/// Decides by lifetime, age, and what response and request say.
pub fn reuse(control: &Control, lifetime: Duration, age: Duration, demand: &Demand) -> Reuse {
    // Unqualified no-cache: never without validation (section 5.2.2.4). The qualified one's fields are not stored.
    if control.no_cache == Scope::Whole || demand.no_cache {
        return Reuse::Unvalidated;
    }
    let needed = age.saturating_add(demand.min_fresh.unwrap_or_default());
    let young_enough = demand.max_age.is_none_or(|limit| age <= limit);
    if lifetime > needed && young_enough {
        return Reuse::Fresh;
    }
    if lifetime > age && demand.max_stale.is_none() {
        return Reuse::Unvalidated;
    }
    let staleness = age.saturating_sub(lifetime);
    if forbids_stale(control) {
        return Reuse::Stale;
    }
    if young_enough && demand.min_fresh.is_none() {
        if demand.max_stale.is_some_and(|limit| staleness <= limit) {
            return Reuse::StaleAccepted;
        }
        if control.stale_while_revalidate.is_some_and(|window| staleness < window) {
            return Reuse::StaleWhileRevalidate;
        }
    }
    Reuse::Stale
}

/// Whether a stale response may be sent because the origin fails (RFC 5861 section 4): it failed to answer, or it
/// answered 500, 502, 503 or 504.
pub fn stale_on_error(control: &Control, lifetime: Duration, age: Duration, rules: &Rules) -> bool {
    let window = control.stale_if_error.or(rules.stale_if_error);
    let staleness = age.saturating_sub(lifetime);
    !forbids_stale(control) && control.no_cache != Scope::Whole && window.is_some_and(|window| staleness <= window)
}

/// Status codes that RFC 5861 section 4 calls an error.
pub fn is_error(status: http::StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Section 4.2.4: no stale response where one of these forbids it. `s-maxage` includes `proxy-revalidate`
/// (section 5.2.2.10), so it switches the windows of RFC 5861 off. An origin that wants both for this cache writes
/// `CDN-Cache-Control: max-age=..., stale-while-revalidate=...`.
pub fn forbids_stale(control: &Control) -> bool {
    control.must_revalidate || control.proxy_revalidate || control.s_maxage.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;

    fn control(value: &str) -> Control {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", value.parse().unwrap());
        Control::of_response(&headers)
    }

    fn at_age(value: &str, age: u64, demand: &Demand) -> Reuse {
        let control = control(value);
        let lifetime = control.s_maxage.or(control.max_age).unwrap_or_default();
        reuse(&control, lifetime, Duration::from_secs(age), demand)
    }

    #[test]
    fn fresh_is_younger_than_its_lifetime() {
        let nothing = Demand::default();
        assert_eq!(at_age("max-age=10", 9, &nothing), Reuse::Fresh);
        assert_eq!(at_age("max-age=10", 10, &nothing), Reuse::Stale, "response_is_fresh = lifetime > age");
        assert_eq!(at_age("max-age=10, no-cache", 0, &nothing), Reuse::Unvalidated);
        assert_eq!(at_age("max-age=10, no-cache=\"x-a\"", 0, &nothing), Reuse::Fresh);
    }

    #[test]
    fn stale_while_revalidate_has_an_end() {
        let nothing = Demand::default();
        assert_eq!(at_age("max-age=10, stale-while-revalidate=5", 14, &nothing), Reuse::StaleWhileRevalidate);
        assert_eq!(at_age("max-age=10, stale-while-revalidate=5", 15, &nothing), Reuse::Stale);
    }

    #[test]
    fn revalidating_directives_forbid_stale_in_every_form() {
        let impatient = Demand { max_stale: Some(Duration::MAX), ..Demand::default() };
        for forbidding in ["must-revalidate", "proxy-revalidate", "s-maxage=10"] {
            let value = format!("max-age=10, stale-while-revalidate=99, stale-if-error=99, {forbidding}");
            assert_eq!(at_age(&value, 20, &impatient), Reuse::Stale, "{forbidding}");
            let ten = Duration::from_secs(10);
            assert!(!stale_on_error(&control(&value), ten, 2 * ten, &Rules::default()), "{forbidding}");
        }
    }

    #[test]
    fn a_client_that_is_obeyed_can_ask_for_more_or_less() {
        let ten = Some(Duration::from_secs(10));
        assert_eq!(at_age("max-age=60", 30, &Demand { max_age: ten, ..Demand::default() }), Reuse::Unvalidated);
        assert_eq!(at_age("max-age=60", 55, &Demand { min_fresh: ten, ..Demand::default() }), Reuse::Unvalidated);
        assert_eq!(at_age("max-age=60", 65, &Demand { max_stale: ten, ..Demand::default() }), Reuse::StaleAccepted);
        assert_eq!(at_age("max-age=60", 75, &Demand { max_stale: ten, ..Demand::default() }), Reuse::Stale);
        assert_eq!(at_age("max-age=60", 1, &Demand { no_cache: true, ..Demand::default() }), Reuse::Unvalidated);
    }

    #[test]
    fn stale_on_error_takes_the_response_before_the_default() {
        let (ten, twenty) = (Duration::from_secs(10), Duration::from_secs(20));
        let lenient = Rules { stale_if_error: Some(twenty), ..Rules::default() };
        assert!(!stale_on_error(&control("max-age=10"), ten, twenty, &Rules::default()));
        assert!(stale_on_error(&control("max-age=10"), ten, twenty, &lenient));
        assert!(!stale_on_error(&control("max-age=10, stale-if-error=5"), ten, twenty, &lenient));
        assert!(stale_on_error(&control("max-age=10, stale-if-error=10"), ten, twenty, &Rules::default()));
    }

    proptest! {
        #[test]
        fn a_response_never_becomes_fresh_again_by_growing_older(
            lifetime in 0u64..100, window in 0u64..100, age in 0u64..300, more in 0u64..300,
        ) {
            let rank = |age| match at_age(&format!("max-age={lifetime}, stale-while-revalidate={window}"), age, &Demand::default()) {
                Reuse::Fresh => 0,
                Reuse::StaleWhileRevalidate => 1,
                _ => 2,
            };
            prop_assert!(rank(age) <= rank(age + more));
            prop_assert_eq!(rank(age) == 0, age < lifetime);
        }
    }
}
