use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The longest run of `times` (sorted) within any half-open window of `period`.
fn most_in_any_window(times: &[u64], period: u64) -> usize {
    (0..times.len()).map(|i| times[i..].iter().take_while(|&&t| t < times[i] + period).count()).max().unwrap_or(0)
}

#[test]
fn a_new_key_has_the_whole_limit_and_not_one_more() {
    let limiter = Limiter::new(3, MINUTE, 10);
    let said: Vec<_> = (0..4).map(|_| limiter.check("a", 1_000)).collect();
    assert_eq!(said.iter().map(|d| d.allowed).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(said.iter().map(|d| d.remaining).collect::<Vec<_>>(), [2, 1, 0, 0]);
    assert_eq!(said[3].retry_after, MINUTE);
    assert_eq!(said[0].retry_after, Duration::ZERO);
}

#[test]
fn another_key_is_not_affected() {
    let limiter = Limiter::new(1, MINUTE, 10);
    assert!(limiter.check("a", 0).allowed);
    assert!(!limiter.check("a", 0).allowed);
    assert!(limiter.check("b", 0).allowed);
}

#[test]
fn the_border_of_a_fixed_window_is_no_loophole() {
    let limiter = Limiter::new(10, MINUTE, 10);
    assert!((0..10).all(|_| limiter.check("a", 59_999).allowed));
    assert!(!limiter.check("a", 60_000).allowed);
    assert!(!limiter.check("a", 119_998).allowed);
    assert!(limiter.check("a", 119_999).allowed, "exactly one period after the last");
}

#[test]
fn requests_come_free_in_portions_not_all_at_once() {
    let limiter = Limiter::new(16, Duration::from_secs(16), 1);
    for second in 0..16 {
        assert!(limiter.check("a", second * 1_000).allowed);
    }
    let refused = limiter.check("a", 15_500);
    assert!(!refused.allowed);
    assert_eq!(refused.retry_after, Duration::from_millis(500));
    assert_eq!(refused.reset, Duration::from_millis(15_500));
    assert!(limiter.check("a", 16_000).allowed);
    assert!(!limiter.check("a", 16_500).allowed);
}

#[test]
fn a_clock_reading_a_little_behind_gains_nothing() {
    let limiter = Limiter::new(2, MINUTE, 10);
    assert!(limiter.check("a", 100_000).allowed);
    assert!(limiter.check("a", 99_000).allowed, "counted at 100,000");
    assert!(!limiter.check("a", 39_000).allowed);
    assert!(!limiter.check("a", 159_999).allowed);
    assert!(limiter.check("a", 160_000).allowed);
}

#[test]
fn a_limit_of_zero_refuses_and_says_when_to_ask_again() {
    let decision = Limiter::new(0, MINUTE, 1).check("a", 5);
    assert!(!decision.allowed);
    assert_eq!(decision.retry_after, MINUTE);
}

#[test]
fn odd_periods_and_capacities_are_harmless() {
    for period in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(7), Duration::MAX] {
        let limiter = Limiter::new(2, period, 0);
        assert_eq!(limiter.capacity(), 1);
        for now in [0, 1, u64::MAX - 1, u64::MAX, 3] {
            limiter.check("a", now);
            limiter.check("b", now);
        }
    }
}

#[test]
fn an_attacker_rotating_keys_neither_grows_memory_nor_frees_a_limited_key() {
    let limiter = Limiter::new(5, MINUTE, 1_000);
    for _ in 0..6 {
        limiter.check("victim", 0);
    }
    for n in 0..100_000u64 {
        limiter.check(&format!("throw-away {n}"), 1 + n / 100);
        if n % 1_000 == 0 {
            assert!(!limiter.check("victim", 1 + n / 100).allowed, "freed after {n} keys");
        }
    }
    assert!(limiter.keys() <= limiter.capacity() && limiter.capacity() <= 1_000);
}

#[test]
fn idle_keys_make_room_first() {
    let limiter = Limiter::new(5, MINUTE, 2);
    for _ in 0..5 {
        limiter.check("idle", 0);
    }
    limiter.check("busy", 59_000);
    limiter.check("new", 70_000);
    assert_eq!(limiter.check("busy", 70_000).remaining, 3, "kept");
    assert_eq!(limiter.keys(), 2);
}

#[test]
fn threads_together_get_no_more_than_the_limit() {
    let limiter = Arc::new(Limiter::new(100, MINUTE, 10_000));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let limiter = limiter.clone();
            std::thread::spawn(move || (0..200u64).filter(|&now| limiter.check("shared", now).allowed).count())
        })
        .collect();
    let allowed: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(allowed, 100);
}

#[test]
fn the_header_fields_are_those_of_the_draft() {
    let limiter = Limiter::new(2, MINUTE, 1);
    let fields = |now| headers(&limiter.check("a", now)).map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>();
    let policy = r#"ratelimit-policy: "default";q=2;w=60"#;
    assert_eq!(fields(0), [policy, r#"ratelimit: "default";r=1;t=60"#]);
    assert_eq!(fields(30_000), [policy, r#"ratelimit: "default";r=0;t=30"#]);
    assert_eq!(fields(30_001), [policy, r#"ratelimit: "default";r=0;t=30"#, "retry-after: 30"]);
    assert_eq!(fields(59_999)[2], "retry-after: 1");
    let nothing_used = headers(&Limiter::new(0, MINUTE, 1).check("a", 5)).map(|(_, v)| v).collect::<Vec<_>>();
    assert_eq!(nothing_used[1..], [r#""default";r=0"#, "60"]);
}

#[test]
fn one_ipv6_network_is_one_client() {
    let key = |address: &str| client_key(address.parse().unwrap());
    assert_eq!(key("192.0.2.1"), "192.0.2.1");
    assert_eq!(key("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::"));
    assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
}

#[test]
fn a_throttle_allows_its_burst_then_its_pace_and_never_steps_back_in_time() {
    let throttle = Throttle::new(Duration::from_secs(10), NonZeroU32::new(2).unwrap());
    let at = |now| throttle.check(now);
    assert_eq!([at(1_000), at(1_000), at(1_000)], [true, true, false]);
    assert_eq!([at(10_999), at(11_000), at(11_000)], [false, true, false]);
    assert_eq!([at(0), at(21_000), at(21_000)], [false, true, false]);
    assert_eq!([at(1_000_000), at(1_000_000), at(1_000_000)], [true, true, false]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Against the exact model, a list of times: never more than the limit in any window; never refused while a window
    /// longer by one slot has room; the report is consistent; all is free after a period of rest.
    #[test]
    fn strict_but_not_stricter_than_one_slot(
        limit in 1u32..20,
        period in prop_oneof![1u64..100, 1_000u64..100_000],
        start in 0u64..1_000_000,
        steps in prop::collection::vec((0u64..40, 0u32..8), 1..120),
    ) {
        let limiter = Limiter::new(limit, Duration::from_millis(period), 4);
        let mut now = start;
        let mut allowed = Vec::new();
        for (step, shrink) in steps {
            now += (step * period / 100) >> shrink;
            let decision = limiter.check("key", now);
            let within = |length: u64| allowed.iter().filter(|&&t: &&u64| t + length > now).count() as u32;
            if decision.allowed {
                prop_assert!(within(period) < limit);
                allowed.push(now);
            } else {
                prop_assert!(within(period + period.div_ceil(16)) >= limit, "refused with room");
                prop_assert!(decision.retry_after > Duration::ZERO && decision.retry_after.as_millis() as u64 <= period);
            }
            prop_assert!(decision.remaining <= limit - allowed.iter().filter(|&&t| t + period > now).count() as u32);
            prop_assert!(decision.reset.as_millis() as u64 <= period);
            let more_in = decision.more_in.expect("something is used");
            prop_assert!(more_in > Duration::ZERO && more_in <= decision.reset);
            prop_assert!(decision.allowed || more_in <= decision.retry_after, "told to come back before there is more");
        }
        prop_assert!(most_in_any_window(&allowed, period) <= limit as usize);
        let rested = limiter.check("key", now + period);
        prop_assert!(rested.allowed);
        prop_assert_eq!(rested.remaining, limit - 1);
    }

    #[test]
    fn waiting_as_told_is_always_enough(limit in 1u32..5, period in 1u64..10_000, gaps in prop::collection::vec(0u64..3_000, 1..40)) {
        let limiter = Limiter::new(limit, Duration::from_millis(period), 4);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            let decision = limiter.check("key", now);
            if !decision.allowed {
                now += decision.retry_after.as_millis() as u64;
                prop_assert!(limiter.check("key", now).allowed);
            }
        }
    }

    #[test]
    fn keys_are_independent(order in prop::collection::vec(0usize..5, 1..100)) {
        let together = Limiter::new(4, MINUTE, 100);
        let alone: Vec<_> = (0..5).map(|_| Limiter::new(4, MINUTE, 1)).collect();
        for (now, key) in order.into_iter().enumerate() {
            let (name, now) = (format!("key {key}"), now as u64 * 997);
            prop_assert_eq!(together.check(&name, now), alone[key].check(&name, now));
        }
    }
}
