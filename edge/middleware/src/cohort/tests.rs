use proptest::prelude::*;

use super::*;

fn experiment(name: &str, weights: &[u32]) -> Experiment {
    let cohorts = weights.iter().enumerate().map(|(n, &weight)| (format!("c{n}"), weight)).collect();
    Experiment::new(name, cohorts).unwrap()
}

/// Shares of the cohorts, in order, in percentage points.
fn shares<S: AsRef<str>>(experiment: &Experiment, identities: impl Iterator<Item = S>) -> Vec<f64> {
    let mut counts = vec![0u32; experiment.cohorts.len()];
    let mut all = 0u32;
    for identity in identities {
        let cohort = experiment.assign(identity.as_ref());
        counts[experiment.cohorts.iter().position(|(name, _)| name == cohort).unwrap()] += 1;
        all += 1;
    }
    counts.into_iter().map(|count| 100.0 * f64::from(count) / f64::from(all)).collect()
}

fn error(name: &str, cohorts: &[(&str, u32)]) -> String {
    let cohorts = cohorts.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
    Experiment::new(name, cohorts).unwrap_err().to_string()
}

#[test]
fn a_list_that_is_no_experiment_says_why() {
    assert!(error("x", &[]).contains("has 0 cohorts"));
    assert!(error("x", &[("a", 0), ("b", 0)]).contains("all weights are 0"));
    assert!(error("x", &[("a", 1), ("a", 2)]).contains("`a` twice"));
    assert!(error("", &[("a", 1)]).contains("1 to 128 bytes"));
    assert!(error("x", &[("", 1)]).contains("1 to 128 bytes"));
    assert!(error("x\0", &[("a", 1)]).contains("no NUL"));
    let many = (0..=MAX_COHORTS).map(|n| (n.to_string(), 1)).collect();
    assert!(matches!(Experiment::new("x", many), Err(ExperimentError::Count { count: 65, .. })));
}

#[test]
fn the_largest_weights_do_not_overflow() {
    let big = experiment("x", &[u32::MAX; 64]);
    assert!(
        shares(&big, (0..10_000).map(|n| big.mint(n, 1, 2))).iter().all(|share| (share - 100.0 / 64.0).abs() < 0.1)
    );
}

#[test]
fn a_cohort_without_weight_gets_nobody() {
    let ab = experiment("x", &[0, 5, 0]);
    assert_eq!(shares(&ab, (0..1_000).map(|n| ab.mint(n, 7, n))), [0.0, 100.0, 0.0]);
    assert_eq!(shares(&ab, (0..1_000).map(|n| n.to_string())), [0.0, 100.0, 0.0]);
}

#[test]
fn a_hashed_assignment_is_the_same_for_ever() {
    // Computed by hand: the first 8 bytes of SHA-256("button\0user-1") and so on. A change here deals everybody anew.
    let point = |key| hashed_point("button", key);
    let expect = |key: &str| {
        let hash = Sha256::digest(format!("button\0{key}"));
        u64::from_be_bytes(hash[..8].try_into().unwrap())
    };
    for key in ["user-1", "", "v1.", "ü"] {
        assert_eq!(point(key), expect(key));
    }
    let abc = Sha256::digest("abc");
    assert_eq!(abc[..4], [0xba, 0x78, 0x16, 0xbf], "the hash is SHA-256");
}

#[test]
fn a_minted_identity_has_the_documented_form_and_carries_its_point() {
    let ab = experiment("x", &[1, 1]);
    let identity = ab.mint(0, 0x8000_0000_0000_0000, u64::MAX);
    assert!(identity.as_str().starts_with("v1.8000000000000000.ffffffff"), "{identity}");
    assert_eq!(identity.as_str().len(), 36);
    assert_eq!(ab.assign(identity.as_str()), "c1");
    assert_eq!(ab.assign(ab.mint(0, 0x7fff_ffff_ffff_ffff, 0).as_str()), "c0");
    assert_eq!(identity::minted_point("x", identity.as_str()), Some(1 << 63));
}

#[test]
fn what_only_looks_minted_is_hashed() {
    let ab = experiment("x", &[1, 1]);
    let good = ab.mint(3, 4, 5).as_str().to_owned();
    let mut bad = vec![good.to_uppercase(), good[..35].to_owned(), format!("{good}0"), good.replace("v1", "v2")];
    bad.extend(["v1..", "v1", "v1.0.0", "v1.+000000000000000.0000000000000000"].map(str::to_owned));
    let last = if good.ends_with('0') { '1' } else { '0' };
    bad.push(format!("{}{last}", &good[..35]));
    for identity in &bad {
        assert_eq!(identity::minted_point("x", identity), None, "{identity}");
        ab.assign(identity);
    }
    assert_eq!(identity::minted_point("y", &good), None, "another experiment's");
}

#[test]
fn experiments_that_share_a_cookie_stay_independent() {
    let (x, y) = (experiment("x", &[1, 1]), experiment("y", &[1, 1]));
    let both = (0..10_000).map(|n| x.mint(n, 99, n << 32)).filter(|id| x.assign(id.as_str()) == y.assign(id.as_str()));
    let agree = both.count();
    assert!((4_700..5_300).contains(&agree), "{agree} of 10,000 agree");
}

#[test]
fn sequences_of_many_pops_together_still_split_well() {
    let ab = experiment("x", &[30, 70]);
    let seeds = [1u64, 0x5555_5555_5555_5555, 0xdead_beef_dead_beef, 42 << 50];
    let ids = seeds.into_iter().flat_map(|seed| (0..2_500).map(move |n| (n, seed)));
    let split = shares(&ab, ids.map(|(n, seed)| ab.mint(n, seed, n)));
    assert!((split[0] - 30.0).abs() < 0.2, "{split:?}");
}

#[test]
fn cookies_are_found_in_any_shape() {
    let name = CookieName::parse("ab").unwrap();
    let find = |headers: &[&'static str]| cookie(headers.iter().copied(), &name);
    assert_eq!(find(&["ab=x"]), Some("x"));
    assert_eq!(find(&["a=b; ab=x; c"]), Some("x"));
    assert_eq!(find(&["a=b;ab = \"x\" "]), Some("x"));
    assert_eq!(find(&["cab=no; abc=no; AB=no"]), None);
    assert_eq!(find(&["ab=first; ab=second"]), Some("first"));
    assert_eq!(find(&["a=b", "ab=x=y=="]), Some("x=y=="));
    assert_eq!(find(&["ab="]), None);
    assert_eq!(find(&[";;=;ab"]), None);
    let long = format!("ab={}", "x".repeat(MAX_IDENTITY_BYTES + 1));
    assert_eq!(cookie([long.as_str()], &name), None);
}

#[test]
fn the_cookie_is_secure_only_over_tls() {
    let name = CookieName::parse("__ab").unwrap();
    let identity = experiment("x", &[1]).mint(1, 2, 3);
    let plain = set_cookie(&name, &identity, Transport::Http);
    assert_eq!(plain, format!("__ab={identity}; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly"));
    assert_eq!(set_cookie(&name, &identity, Transport::Https), format!("{plain}; Secure"));
}

#[test]
fn a_cookie_name_cannot_smuggle_anything() {
    for bad in ["", "a b", "a;b", "a=b", "a\r\nb", "ä", &"a".repeat(129)] {
        assert!(CookieName::parse(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_ten_thousand_new_clients_split_within_a_tenth_of_a_point(
        weights in prop::collection::vec(0u32..1_000, 1..6).prop_filter("some weight", |w| w.iter().any(|&w| w > 0)),
        seed: u64,
        start: u64,
    ) {
        let experiment = experiment("x", &weights);
        let split = shares(&experiment, (0..10_000).map(|n| experiment.mint(start.wrapping_add(n), seed, n)));
        let total: u32 = weights.iter().sum();
        for (share, weight) in split.into_iter().zip(weights) {
            prop_assert!((share - 100.0 * f64::from(weight) / f64::from(total)).abs() < 0.1);
        }
    }

    #[test]
    fn an_identity_keeps_its_cohort_in_every_pop(identity in ".{0,300}", n: u64, seed: u64, random: u64) {
        let (here, there) = (experiment("x", &[3, 1, 4]), experiment("x", &[3, 1, 4]));
        prop_assert_eq!(here.assign(&identity), there.assign(&identity));
        let minted = here.mint(n, seed, random);
        prop_assert_eq!(here.assign(minted.as_str()), there.assign(minted.as_str()));
        let name = CookieName::parse("id").unwrap();
        let header = set_cookie(&name, &minted, Transport::Https);
        prop_assert_eq!(cookie([header.as_str()], &name), Some(minted.as_str()));
    }

    #[test]
    fn changing_weights_moves_only_the_needed_share(before in 0u32..=100, after in 0u32..=100) {
        let (old, new) = (experiment("x", &[before, 100 - before]), experiment("x", &[after, 100 - after]));
        let ids: Vec<_> = (0..10_000).map(|n| old.mint(n, 5, n)).collect();
        let moved = ids.iter().filter(|id| old.assign(id.as_str()) != new.assign(id.as_str())).count();
        let needed = f64::from(before.abs_diff(after));
        prop_assert!((moved as f64 / 100.0 - needed).abs() < 0.2, "{} moved", moved);
    }

    #[test]
    fn hashed_identities_are_independent_across_experiments(salt: u64) {
        let (x, y) = (experiment("x", &[1, 1]), experiment("y", &[1, 1]));
        let agree = (0..4_000).filter(|n| {
            let id = format!("user {salt} {n}");
            x.assign(&id) == y.assign(&id)
        });
        // Five standard deviations of a fair coin.
        prop_assert!((agree.count() as i32 - 2_000).abs() < 160);
    }
}
