//! What a function's `fetch()` says itself about caching, over what the origin says: the `cf` options of Cloudflare
//! Workers, and `cache` of the Fetch API.
//!
//! Who sets these speaks for the answer, so most of what an origin says gives way. What does not, and why:
//!
//! * `Set-Cookie` is never shared, whoever asks for it: see [`storing::storable`](super::storing::storable).
//! * `Authorization` in the request still needs an answer that may be shared (RFC 9111 section 3.5).
//! * `private` and `no-store` give way to a lifetime ("regardless of what headers are seen on the response", Cloudflare
//!   on `cacheTtl`) only where the request names nobody. With `Cookie` or `Authorization` they stand: the answer is one
//!   person's, and the function, which passes on what its client sent, may not know it.
//! * `Vary` selects as ever, and `Vary: *` is not stored.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, EXPIRES};
use http::{HeaderMap, StatusCode};

use super::{Control, Demand, Scope};

/// What a request says about the caching of its answer. In the extensions of a request given to [`fetch`](crate::fetch);
/// where it [shapes](Overrides::shapes) what is stored, its key should be one that only its author uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `cacheTtl`: the lifetime of the answer, whatever it says itself. Zero: stale at once, but validated rather than
    /// fetched anew.
    pub ttl: Option<Duration>,
    /// `cacheTtlByStatus`: the same for answers of these statuses; the first that matches counts, before `ttl`.
    pub ttl_by_status: Vec<(RangeInclusive<u16>, Ttl)>,
    /// `cacheEverything`: what says nothing of its lifetime gets the one that its status has by default.
    pub everything: bool,
    /// `cache` of the Fetch API.
    pub mode: Mode,
}

/// A lifetime of `cacheTtlByStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// Negative: not stored.
    Never,
    /// The lifetime.
    Lasts(Duration),
}

/// Cache modes of the Fetch API (<https://fetch.spec.whatwg.org/#concept-request-cache-mode>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As HTTP says.
    #[default]
    Default,
    /// Neither looked up nor stored.
    NoStore,
    /// Not looked up, but stored.
    Reload,
    /// Validated before it is used.
    NoCache,
    /// Used also where it is stale, unless the response forbids that (RFC 9111 section 4.2.4).
    ForceCache,
    /// The same, and the origin is not asked.
    OnlyIfCached,
}

impl Overrides {
    /// Whether what they bring into the store is not what the origin alone would have brought.
    pub fn shapes(&self) -> bool {
        self.ttl.is_some() || !self.ttl_by_status.is_empty() || self.everything
    }

    /// The lifetime that an answer of this status has by them; `None` where they leave it to the answer.
    fn lifetime(&self, status: StatusCode) -> Option<Ttl> {
        let by_status = self.ttl_by_status.iter().find(|(range, _)| range.contains(&status.as_u16()));
        by_status.map(|(_, ttl)| *ttl).or(self.ttl.map(Ttl::Lasts))
    }

    /// What the request demands of the cache.
    pub(crate) fn demand(&self, demand: Demand) -> Demand {
        let any_age = Demand { max_stale: Some(Duration::MAX), ..demand };
        match self.mode {
            Mode::Default | Mode::Reload => demand,
            Mode::NoStore => Demand { no_store: true, ..demand },
            Mode::NoCache => Demand { no_cache: true, ..demand },
            Mode::ForceCache => any_age,
            Mode::OnlyIfCached => Demand { only_if_cached: true, ..any_age },
        }
    }

    /// Control and lifetime of an answer after these were heard; the lifetime counts from now on, so the age that the
    /// answer arrived with is added to it.
    pub(crate) fn apply(
        &self,
        request: &HeaderMap,
        (status, response): (StatusCode, &HeaderMap),
        (control, lifetime): (Control, Duration),
        initial_age: Duration,
    ) -> (Control, Duration) {
        match self.lifetime(status) {
            Some(Ttl::Never) => (Control { no_store: true, must_understand: false, ..control }, lifetime),
            Some(Ttl::Lasts(_)) if is_somebodys(request) && is_kept_from_others(&control) => (control, lifetime),
            Some(Ttl::Lasts(ttl)) => forced(control, ttl, initial_age),
            None if self.everything && !tells_lifetime(response, &control) && control.no_cache != Scope::Whole => {
                let lifetime =
                    default_ttl(status).map_or(lifetime, |ttl| ttl.max(lifetime).saturating_add(initial_age));
                // As if the response had said it: that allows to store a status without a heuristic lifetime.
                (Control { max_age: Some(lifetime), ..control }, lifetime)
            }
            None => (control, lifetime),
        }
    }
}

/// The directives that are left when the lifetime is a function's.
fn forced(control: Control, ttl: Duration, initial_age: Duration) -> (Control, Duration) {
    let qualified = |scope| if scope == Scope::Whole { Scope::Absent } else { scope };
    let lifetime = if ttl.is_zero() { Duration::ZERO } else { ttl.saturating_add(initial_age) };
    // "A value of 0 indicates that the cache asset expires immediately": nothing is sent stale then.
    let window = |window: Option<Duration>| window.filter(|_| !ttl.is_zero());
    let control = Control {
        no_store: false,
        must_understand: false,
        no_cache: qualified(control.no_cache),
        private: qualified(control.private),
        max_age: Some(lifetime),
        // What allows to share an answer to `Authorization` stays (RFC 9111 section 3.5): only the origin can.
        s_maxage: control.s_maxage.map(|_| lifetime),
        stale_while_revalidate: window(control.stale_while_revalidate),
        stale_if_error: window(control.stale_if_error),
        ..control
    };
    (control, lifetime)
}

/// Whether a request says who sends it.
fn is_somebodys(request: &HeaderMap) -> bool {
    request.contains_key(COOKIE) || request.contains_key(AUTHORIZATION)
}

fn is_kept_from_others(control: &Control) -> bool {
    control.no_store || control.private == Scope::Whole
}

fn tells_lifetime(response: &HeaderMap, control: &Control) -> bool {
    control.s_maxage.or(control.max_age).is_some() || (!control.targeted && response.contains_key(EXPIRES))
}

/// How long Cloudflare's edge keeps what says nothing ("Default cache behavior", section "Edge TTL").
fn default_ttl(status: StatusCode) -> Option<Duration> {
    let minutes = match status.as_u16() {
        200 | 206 | 301 => 120,
        302 | 303 => 20,
        404 | 410 => 3,
        _ => return None,
    };
    Some(Duration::from_secs(minutes * 60))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderName, HeaderValue, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::policy::storing::{Candidate, storable};
    use crate::policy::{Exchange, NotStored, Reuse, Rules, freshness, reuse};

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// For how long an answer is stored under these overrides.
    fn stored(
        overrides: &Overrides,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<u64, NotStored> {
        let (request, response, status) = (headers(request), headers(response), StatusCode::from_u16(status).unwrap());
        let exchange = Exchange { requested: SystemTime::UNIX_EPOCH, received: SystemTime::UNIX_EPOCH };
        let control = Control::of_response(&response);
        let lifetime = freshness::lifetime(status, &response, &control, exchange, &Rules::default());
        let age = freshness::initial_age(&response, exchange);
        let (control, lifetime) = overrides.apply(&request, (status, &response), (control, lifetime), age);
        let (method, demand) = (&Method::GET, &Demand::default());
        storable(Candidate {
            method,
            request: &request,
            demand,
            status,
            response: &response,
            control: &control,
            lifetime,
        })?;
        let fresh = reuse::reuse(&control, lifetime, age, demand) == Reuse::Fresh;
        Ok(if fresh { (lifetime - age).as_secs() } else { 0 })
    }

    fn ttl(seconds: u64) -> Overrides {
        Overrides { ttl: Some(Duration::from_secs(seconds)), ..Overrides::default() }
    }

    /// "This option forces Cloudflare to cache the response for this request, regardless of what headers are seen on the
    /// response." (RequestInitCfProperties, cacheTtl)
    #[test]
    fn a_ttl_counts_before_everything_that_the_answer_says_of_its_lifetime() {
        for control in ["max-age=5", "no-store", "private", "no-cache", "s-maxage=0", "max-age=0, must-revalidate"] {
            assert_eq!(stored(&ttl(60), &[], 200, &[("cache-control", control)]), Ok(60), "{control}");
        }
        assert_eq!(stored(&ttl(60), &[], 200, &[("expires", "0")]), Ok(60));
        assert_eq!(stored(&ttl(60), &[], 200, &[("cdn-cache-control", "no-store")]), Ok(60));
        assert_eq!(stored(&ttl(60), &[], 302, &[]), Ok(60), "a status without a heuristic lifetime, too");
        assert_eq!(stored(&ttl(60), &[], 200, &[("age", "1000"), ("cache-control", "max-age=5")]), Ok(60));
    }

    /// "A value of 0 indicates that the cache asset expires immediately." (the same)
    #[test]
    fn a_ttl_of_zero_keeps_only_what_can_be_validated() {
        assert_eq!(stored(&ttl(0), &[], 200, &[("cache-control", "max-age=60")]), Err(NotStored::Useless));
        assert_eq!(stored(&ttl(0), &[], 200, &[("cache-control", "max-age=60"), ("etag", "\"a\"")]), Ok(0));
        let window = [("cache-control", "max-age=60, stale-while-revalidate=60")];
        assert_eq!(stored(&ttl(0), &[], 200, &window), Err(NotStored::Useless));
    }

    /// "If the response to this request has a status code that matches, Cloudflare will cache for the instructed time, and
    /// override cache directives sent by the origin. [...] Any negative value instructs Cloudflare not to cache at all."
    /// (cacheTtlByStatus)
    #[test]
    fn a_ttl_by_status_is_for_that_status_alone() {
        let day = Ttl::Lasts(Duration::from_secs(86_400));
        let second = Ttl::Lasts(Duration::from_secs(1));
        let by_status = vec![(200..=299, day), (404..=404, second), (500..=599, Ttl::Never)];
        let overrides = Overrides { ttl_by_status: by_status, ..Overrides::default() };
        assert_eq!(stored(&overrides, &[], 200, &[("cache-control", "no-store")]), Ok(86_400));
        assert_eq!(stored(&overrides, &[], 404, &[]), Ok(1));
        assert_eq!(stored(&overrides, &[], 503, &[("cache-control", "max-age=9")]), Err(NotStored::NoStore));
        assert_eq!(stored(&overrides, &[], 301, &[("cache-control", "max-age=9")]), Ok(9));
        let both = Overrides { ttl: Some(Duration::from_secs(7)), ..overrides };
        assert_eq!((stored(&both, &[], 404, &[]), stored(&both, &[], 301, &[])), (Ok(1), Ok(7)));
    }

    /// "This has the same effect as setting the Cloudflare cache level Cache Everything" (cacheEverything), which heeds
    /// what the origin says, and knows 120 min for 200 and 301, 20 for 302 and 303, 3 for 404 and 410 where it says nothing.
    #[test]
    fn everything_gives_a_lifetime_to_what_has_none() {
        let everything = Overrides { everything: true, ..Overrides::default() };
        assert_eq!(stored(&everything, &[], 200, &[]), Ok(7200));
        assert_eq!(stored(&everything, &[], 302, &[]), Ok(1200));
        assert_eq!(stored(&everything, &[], 404, &[]), Ok(180));
        assert_eq!(stored(&everything, &[], 500, &[]), Err(NotStored::Useless));
        assert_eq!(stored(&everything, &[], 200, &[("cache-control", "max-age=5")]), Ok(5));
        assert_eq!(stored(&everything, &[], 200, &[("expires", "0")]), Err(NotStored::Useless));
        for (control, why) in [("no-store", NotStored::NoStore), ("private", NotStored::Private)] {
            assert_eq!(stored(&everything, &[], 200, &[("cache-control", control)]), Err(why));
        }
        assert_eq!(stored(&everything, &[("authorization", "x")], 200, &[]), Err(NotStored::Authorization));
    }

    #[test]
    fn what_is_somebodys_stays_with_whom_the_origin_gave_it_to() {
        for name in ["cookie", "authorization"] {
            for (control, why) in [("private", NotStored::Private), ("no-store", NotStored::NoStore)] {
                assert_eq!(stored(&ttl(60), &[(name, "x")], 200, &[("cache-control", control)]), Err(why));
            }
        }
        assert_eq!(stored(&ttl(60), &[("cookie", "x")], 200, &[("cache-control", "max-age=5")]), Ok(60));
        assert_eq!(stored(&ttl(60), &[("authorization", "x")], 200, &[]), Err(NotStored::Authorization));
        assert_eq!(stored(&ttl(60), &[("authorization", "x")], 200, &[("cache-control", "public")]), Ok(60));
        assert_eq!(stored(&ttl(60), &[("authorization", "x")], 200, &[("cache-control", "s-maxage=5")]), Ok(60));
    }

    proptest! {
        #[test]
        fn no_override_shares_a_cookie_or_what_varies_by_everything(
            seconds in proptest::option::of(0u64..1000), by_status in proptest::option::of(-5i64..1000), everything: bool,
            status in 200u16..600, control in "(public|private|no-store|max-age=[0-9]{1,3})(, s-maxage=5)?",
            forbidding in prop_oneof![Just(("set-cookie", "a=b")), Just(("vary", "*"))],
        ) {
            let ttl = |seconds: i64| u64::try_from(seconds).map_or(Ttl::Never, |s| Ttl::Lasts(Duration::from_secs(s)));
            let overrides = Overrides {
                ttl: seconds.map(Duration::from_secs),
                ttl_by_status: by_status.into_iter().map(|seconds| (200..=599, ttl(seconds))).collect(),
                everything,
                mode: Mode::Default,
            };
            prop_assert!(stored(&overrides, &[], status, &[("cache-control", &control), forbidding]).is_err());
        }
    }
}
