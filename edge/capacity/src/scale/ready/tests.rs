use proptest::prelude::*;

use super::*;

const NOW: Moment = Moment::from_secs(1000);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn quantiles_agree_with_the_tables() {
    for (part, value) in [(0.5, 0.0), (0.975, 1.959_964), (0.999, 3.090_232), (0.01, -2.326_348)] {
        assert!((quantile::normal(part) - value).abs() < 1e-6, "{part}");
    }
    // Poisson.
    for (mean, part, count) in [(1.0, 0.95, 3), (10.0, 0.99, 18), (4.0, 0.999, 11), (0.01, 0.9, 0), (100.0, 0.95, 117)]
    {
        assert_eq!(quantile::arrivals(mean, 1.0, part), count, "{mean} {part}");
    }
    // Negative binomial of size 1 (geometric): P(N ≤ k) = 1 - (1 - 1/d)^(k + 1), of mean d - 1.
    assert_eq!(quantile::arrivals(9.0, 10.0, 0.99), 43);
    // Far out, both ways to compute it meet.
    assert!(quantile::arrivals(689.0, 1.0, 0.999).abs_diff(quantile::arrivals(691.0, 1.0, 0.999)) <= 4);
}

#[test]
fn erlang_s_formulas_agree_with_the_tables() {
    // Erlang B at 1 % loss: 5 servers carry 1.361, 10 carry 4.461, 20 carry 12.03, 100 carry 84.06.
    for (n, load) in [(5, 1.361), (10, 4.461), (20, 12.03), (100, 84.06)] {
        assert!((erlang_b(n, load) - 0.01).abs() < 1e-4, "{n}");
        assert_eq!(servers(load * 0.999, 1.0, 0.01, 1000), n);
    }
    // Of M/M/1 the part that waits is the utilisation; of M/M/2 at a load of 1 it is a third.
    assert!((erlang_c(1, 0.7) - 0.7).abs() < 1e-12);
    assert!((erlang_c(2, 1.0) - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(erlang_c(2, 2.0), 1.0);
    assert_eq!(erlang_c(2, f64::NAN), 1.0);
}

/// Arrivals for as many spans as there are counts.
fn arrivals(span: Duration, counts: impl IntoIterator<Item = u64>) -> (Arrivals, Moment) {
    let (mut arrivals, mut at) = (Arrivals::new(span), NOW);
    for count in counts {
        arrivals.record(count, at);
        at = at + span;
    }
    (arrivals, at)
}

#[test]
fn even_arrivals_have_no_dispersion_and_bursts_have_much() {
    let (even, now) = arrivals(ms(100), [5; 200]);
    let (mean, dispersion) = even.in_span(now).unwrap();
    assert!((mean - 5.0).abs() < 1e-9 && dispersion < 1e-9, "{mean} {dispersion}");
    let (bursts, now) = arrivals(ms(100), (0..2000).map(|i| if i % 20 == 0 { 100 } else { 0 }));
    let (mean, dispersion) = bursts.in_span(now).unwrap();
    assert!((mean - 5.0).abs() < 0.5 && (85.0..100.0).contains(&dispersion), "{mean} {dispersion}");
    assert!(Ready::default().blank(&even, now) <= 14);
    assert_eq!(Ready::default().blank(&bursts, now), 34, "as many as there may be");
}

#[test]
fn a_quiet_worker_holds_the_least_and_zero_means_none_ever() {
    let nothing = Arrivals::new(ms(3));
    assert_eq!(Ready::default().blank(&nothing, NOW), 2);
    let (busy, now) = arrivals(ms(3), [3; 1000]);
    assert!(Ready::default().blank(&busy, now) > 2);
    assert_eq!(Ready { min_ready: 0, ..Ready::default() }.blank(&busy, now), 0);
    assert_eq!(Ready::default().blank(&busy, now + Duration::from_secs(60)), 2, "an old burst is forgotten");
}

#[test]
fn provisioned_isolates_follow_the_load() {
    // 100 requests a second of 50 ms: a load of 5 Erlang.
    let (even, now) = arrivals(ms(100), [10; 600]);
    let wanted = Ready::default().provisioned(&even, ms(50), now).unwrap();
    assert_eq!(wanted, (1..).find(|n| erlang_b(*n, 5.0) <= 0.001).unwrap());
    assert_eq!(
        Ready::default().provisioned(&Arrivals::new(ms(100)), ms(50), NOW),
        None,
        "nothing seen is no wish for none"
    );
    let (bursts, now) = arrivals(ms(100), (0..600).map(|i| if i % 10 == 0 { 100 } else { 0 }));
    assert!(Ready::default().provisioned(&bursts, ms(50), now).unwrap() > 3 * wanted);
}

#[test]
fn errors_of_configuration_name_the_key() {
    let text = "min_ready = 5\nmax_ready = 3\nmiss = 0\nmax_provisioned = 0";
    let keys: Vec<_> =
        toml::from_str::<Ready>(text).unwrap().validate().unwrap_err().0.into_iter().map(|e| e.key).collect();
    assert_eq!(keys, ["max_ready", "max_provisioned", "miss"]);
    Ready::default().validate().unwrap();
}

proptest! {
    #[test]
    fn more_or_burstier_arrivals_never_need_fewer(mean in 0.0..300.0_f64, more in 0.0..300.0_f64, dispersion in 1.0..50.0_f64, plus in 0.0..50.0_f64) {
        // To within one: where the Poisson form passes into the normal one, they differ by rounding.
        prop_assert!(quantile::arrivals(mean, dispersion, 0.999) <= quantile::arrivals(mean + more, dispersion, 0.999) + 1);
        prop_assert!(servers(mean, dispersion, 0.001, 100_000) <= servers(mean + more, dispersion, 0.001, 100_000));
        prop_assert!(servers(mean, 1.0, 0.001, 100_000) <= servers(mean, 1.0 + plus, 0.001, 100_000) + 1);
    }

    #[test]
    fn any_clock_and_count_is_borne(steps in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50)) {
        let mut arrivals = Arrivals::new(ms(1));
        for (count, at) in steps {
            arrivals.record(count, Moment::from_secs(at));
            let ready = Ready::default().blank(&arrivals, Moment::from_secs(at));
            prop_assert!((2..=34).contains(&ready));
        }
    }
}
