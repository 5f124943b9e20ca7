//! Each case names the test of kubernetes/kubernetes, `pkg/controller/podautoscaler`, whose numbers it replays.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NOW: Moment = Moment::from_secs(1_000_000);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The defaults of the original's tests.
fn config() -> Horizontal {
    Horizontal { max: 1000, initial_readiness: seconds(10), initialisation: seconds(120), ..Horizontal::default() }
}

fn running() -> Replica {
    let started = NOW.before(seconds(3600));
    Replica {
        phase: Phase::Running,
        started: Some(started),
        readiness: Some(Readiness { ready: true, since: started }),
        request: 1000.0,
    }
}

fn unready() -> Replica {
    let started = NOW.before(seconds(3600));
    Replica { readiness: Some(Readiness { ready: false, since: started }), ..running() }
}

/// It has only begun.
fn hot() -> Replica {
    Replica { started: Some(NOW), readiness: Some(Readiness { ready: true, since: NOW }), ..running() }
}

fn pending() -> Replica {
    Replica { phase: Phase::Pending, ..unready() }
}

fn gone() -> Replica {
    Replica { phase: Phase::Gone, ..unready() }
}

fn samples(levels: &[f64]) -> Vec<Option<Sample>> {
    levels.iter().map(|value| Some(Sample { value: *value, at: NOW, window: seconds(60) })).collect()
}

fn cpu(current: u32, replicas: &[Replica], levels: &[f64], target: f64) -> u32 {
    let measured = Measured::Utilisation { samples: samples(levels), start_costs: true };
    let metric = Metric { name: "cpu".into(), target, measured };
    config().propose(current, replicas, &metric, NOW).unwrap().replicas
}

fn average(current: u32, replicas: &[Replica], levels: &[f64], target: f64) -> u32 {
    let metric = Metric { name: "qps".into(), target, measured: Measured::Average(samples(levels)) };
    config().propose(current, replicas, &metric, NOW).unwrap().replicas
}

fn value(current: u32, replicas: &[Replica], value: f64, target: f64) -> u32 {
    let metric = Metric { name: "qps".into(), target, measured: Measured::Value(Some(value)) };
    config().propose(current, replicas, &metric, NOW).unwrap().replicas
}

fn share(current: u32, value: f64, target: f64) -> u32 {
    let metric = Metric { name: "qps".into(), target, measured: Measured::Share(Some(value)) };
    config().propose(current, &[], &metric, NOW).unwrap().replicas
}

#[test]
fn the_examples_of_the_documentation_hold() {
    // "Algorithm details": 200m against 100m doubles, 50m halves; within 0.9 to 1.1 nothing changes.
    assert_eq!(average(5, &[running(); 5], &[200.0; 5], 100.0), 10);
    assert_eq!(average(4, &[running(); 4], &[50.0; 4], 100.0), 2);
    assert_eq!(average(10, &[running(); 10], &[109.0; 10], 100.0), 10);
    assert_eq!(average(10, &[running(); 10], &[91.0; 10], 100.0), 10);
    assert_eq!(average(10, &[running(); 10], &[111.0; 10], 100.0), 12);
}

#[test]
fn cpu_against_requests_scales_both_ways() {
    assert_eq!(cpu(3, &[running(); 3], &[300.0, 500.0, 700.0], 30.0), 5, "ScaleUp");
    assert_eq!(cpu(5, &[running(); 5], &[100.0, 300.0, 500.0, 250.0, 250.0], 50.0), 3, "ScaleDown");
    assert_eq!(
        cpu(4, &[running(); 4], &[4000.0, 9500.0, 3000.0, 7000.0, 3200.0, 2000.0], 100.0),
        24,
        "SuperfluousMetrics"
    );
}

#[test]
fn unready_replicas_dampen_the_rise() {
    let levels = [300.0, 500.0, 700.0];
    assert_eq!(cpu(3, &[unready(), running(), running()], &levels, 30.0), 4, "ScaleUpUnreadyLessScale");
    assert_eq!(cpu(3, &[hot(), running(), running()], &levels, 30.0), 4, "ScaleUpHotCpuLessScale");
    assert_eq!(cpu(3, &[running(), unready(), unready()], &[400.0, 500.0, 700.0], 30.0), 3, "ScaleUpUnreadyNoScale");
    assert_eq!(cpu(3, &[running(), hot(), hot()], &[400.0, 500.0, 700.0], 30.0), 3, "ScaleHotCpuNoScale");
    let with_gone = [running(), running(), gone(), gone()];
    assert_eq!(cpu(2, &with_gone, &[500.0, 700.0], 30.0), 4, "ScaleUpIgnoresFailedPods, ScaleUpIgnoresDeletionPods");
}

#[test]
fn unready_replicas_are_left_out_of_the_fall() {
    let levels = [100.0, 300.0, 500.0, 250.0, 250.0];
    assert_eq!(
        cpu(5, &[running(), running(), running(), unready(), unready()], &levels, 50.0),
        2,
        "ScaleDownIncludeUnreadyPods"
    );
    assert_eq!(cpu(5, &[running(), running(), running(), hot(), hot()], &levels, 50.0), 2, "ScaleDownIgnoreHotCpuPods");
    let one = [running(), pending(), pending(), pending(), pending()];
    assert_eq!(cpu(5, &one, &[100.0], 50.0), 1, "ScaleDownExcludeUnscheduledPods");
}

#[test]
fn missing_samples_dampen_in_both_directions() {
    assert_eq!(cpu(4, &[running(); 4], &[400.0, 95.0], 100.0), 3, "MissingMetrics");
    assert_eq!(cpu(2, &[running(); 2], &[1000.0], 100.0), 2, "MissingMetricsNoChangeEq");
    assert_eq!(cpu(2, &[running(); 2], &[1900.0], 100.0), 2, "MissingMetricsNoChangeGt");
    assert_eq!(cpu(2, &[running(); 2], &[600.0], 100.0), 2, "MissingMetricsNoChangeLt");
    assert_eq!(cpu(3, &[unready(), running(), running()], &[100.0, 450.0], 50.0), 3, "MissingMetricsUnreadyChange");
    assert_eq!(cpu(3, &[hot(), running(), running()], &[100.0, 450.0], 50.0), 3, "MissingMetricsHotCpuNoChange");
    assert_eq!(cpu(3, &[unready(), running(), running()], &[100.0, 2000.0], 50.0), 4, "MissingMetricsUnreadyScaleUp");
    let four = [unready(), running(), running(), running()];
    assert_eq!(cpu(4, &four, &[100.0, 100.0, 100.0], 50.0), 3, "MissingMetricsUnreadyScaleDown");
    assert_eq!(cpu(2, &[running(); 3], &[100.0, 100.0], 50.0), 2, "DuringRollingUpdateWithMaxSurge");
}

#[test]
fn means_of_a_custom_metric_take_unready_replicas_as_they_are() {
    assert_eq!(average(3, &[running(); 3], &[20.0, 10.0, 30.0], 15.0), 4, "ScaleUpCM");
    assert_eq!(
        average(3, &[running(), running(), hot()], &[50.0, 10.0, 30.0], 15.0),
        6,
        "ScaleUpCMUnreadyHotCpuNoLessScale"
    );
    assert_eq!(
        average(3, &[unready(), running(), unready()], &[50.0, 15.0, 30.0], 15.0),
        7,
        "ScaleUpCMUnreadyHotCpuScaleWouldScaleDown"
    );
    assert_eq!(average(5, &[running(); 5], &[12.0; 5], 20.0), 3, "ScaleDownCM");
    assert_eq!(average(3, &[running(); 3], &[20.0, 21.0, 21.0], 20.0), 3, "ToleranceCM");
}

#[test]
fn one_value_counts_against_all_or_against_each() {
    assert_eq!(value(3, &[running(); 3], 20.0, 15.0), 4, "ScaleUpCMObject");
    assert_eq!(value(3, &[unready(), running(), unready()], 50.0, 10.0), 5, "ScaleUpCMObjectIgnoresUnreadyPods");
    assert_eq!(value(3, &[unready(), running(), unready()], 8.6, 4.4), 2, "ScaleUpCMExternalIgnoresUnreadyPods");
    assert_eq!(value(1, &[running()], 8.6, 4.4), 2, "ScaleUpCMExternal");
    assert_eq!(value(5, &[running(); 5], 12.0, 20.0), 3, "ScaleDownCMObject");
    assert_eq!(value(5, &[running(); 5], 8.6, 14.334), 3, "ScaleDownCMExternal");
    assert_eq!(value(3, &[running(); 3], 20.666, 20.0), 3, "ToleranceCMObject");
    assert_eq!(value(3, &[running(); 3], 8.6, 8.888), 3, "ToleranceCMExternal");
    assert_eq!(value(0, &[], 30.0, 15.0), 2, "from none");
    assert_eq!(share(3, 20.0, 5.0), 4, "ScaleUpCMPerPodObject");
    assert_eq!(share(3, 8.6, 2.15), 4, "ScaleUpPerPodCMExternal");
    assert_eq!(share(5, 6.0, 2.0), 3, "ScaleDownPerPodCMObject");
    assert_eq!(share(5, 8.6, 2.867), 3, "ScaleDownPerPodCMExternal");
    assert_eq!(share(4, 20.166, 5.0), 4, "TolerancePerPodCMObject");
    assert_eq!(share(3, 8.6, 2.9), 3, "TolerancePerPodCMExternal");
}

#[test]
fn what_cannot_be_measured_is_an_error_and_holds() {
    let propose = |replicas: &[Replica], levels: &[f64], target| {
        let measured = Measured::Utilisation { samples: samples(levels), start_costs: true };
        config().propose(4, replicas, &Metric { name: "cpu".into(), target, measured }, NOW).unwrap_err().to_string()
    };
    assert_eq!(propose(&[running(); 4], &[], 100.0), "metric cpu: no sample of a ready replica", "EmptyMetrics");
    let no_request = Replica { request: 0.0, ..running() };
    assert_eq!(
        propose(&[no_request], &[200.0], 100.0),
        "metric cpu: a replica has no request to compare with",
        "EmptyCPURequest"
    );
    assert_eq!(propose(&[running()], &[f64::NAN], 100.0), "metric cpu: no sample of a ready replica");
    assert_eq!(propose(&[running()], &[-1.0], 100.0), "metric cpu: no sample of a ready replica");
    assert_eq!(propose(&[running()], &[1.0], f64::NAN), "metric cpu: its target is not a number above 0");
}

#[test]
fn a_sample_counts_once_the_start_is_over() {
    // TestGroupPods: each replica by when it started, when it turned ready or unready, and the window of its sample.
    let ago = |n| NOW.before(seconds(n));
    let ignored = |started, ready, since, window| {
        let replica = Replica { started: Some(started), readiness: Some(Readiness { ready, since }), ..running() };
        let measured = Measured::Utilisation {
            samples: vec![Some(Sample { value: 900.0, at: NOW, window: seconds(window) })],
            start_costs: true,
        };
        config().propose(1, &[replica], &Metric { name: "cpu".into(), target: 50.0, measured }, NOW).is_err()
    };
    assert!(!ignored(ago(60), true, ago(30), 30), "ready, with a fresh sample, during initialisation");
    assert!(ignored(ago(60), true, ago(30), 60), "ready, but the sample's window began before");
    assert!(ignored(ago(600), false, ago(594), 30), "unready since 6 s after its start: never was ready");
    assert!(!ignored(ago(600), false, ago(540), 30), "unready now, but it was ready once");
    assert!(!ignored(ago(600), true, ago(594), 3600), "after initialisation any sample counts");
}

#[test]
fn of_several_metrics_the_most_counts_and_a_missing_one_forbids_only_the_fall() {
    let ask = |n| Ok(Proposal { metric: "m".into(), replicas: n, ratio: 1.0 });
    let none = || Err(Missing { metric: "m".into(), why: "no value" });
    assert_eq!(Horizontal::combine(3, &[ask(2), ask(5)]), Ok(5));
    assert_eq!(Horizontal::combine(3, &[none(), ask(4)]), Ok(4), "ScaleUpOneMetricEmpty");
    assert_eq!(Horizontal::combine(5, &[none(), ask(3)]), Err(Reason::SomeMissing), "NoScaleDownOneMetricEmpty");
    assert_eq!(Horizontal::combine(5, &[none()]), Err(Reason::NoMetrics));
    assert_eq!(Horizontal::combine(5, &[]), Err(Reason::NoMetrics));
}

/// A history with `asked` as (seconds ago, count).
fn asked(list: &[(u64, u32)]) -> History {
    let mut history = History::default();
    let config = Horizontal { up: Rules { window: seconds(86_400), ..Rules::default() }, ..Horizontal::default() };
    for (ago, n) in list {
        history.stabilise(&config, *n, *n, NOW.before(seconds(*ago)));
    }
    history
}

#[test]
fn the_most_careful_of_a_window_counts() {
    // TestNormalizeDesiredReplicasWithBehavior (formerly ...WithConstraints).
    let stabilise = |list: &[(u64, u32)], up: u64, down: u64, current, desired| {
        let mut config = config();
        (config.up.window, config.down.window) = (seconds(up), seconds(down));
        asked(list).stabilise(&config, current, desired, NOW)
    };
    assert_eq!(stabilise(&[], 0, 300, 100, 5), 5, "empty recommendations for scaling down");
    assert_eq!(stabilise(&[(120, 4), (60, 5)], 0, 300, 100, 3), 5, "simple scale down stabilization");
    assert_eq!(stabilise(&[(120, 4), (60, 5)], 150, 300, 1, 7), 4, "simple scale up stabilization");
    assert_eq!(stabilise(&[(120, 1), (60, 2)], 0, 300, 100, 3), 3, "no scale down stabilization");
    assert_eq!(stabilise(&[(120, 4), (60, 5)], 150, 300, 1, 3), 3, "no scale up stabilization");
    assert_eq!(stabilise(&[(600, 10), (540, 9)], 0, 300, 100, 3), 3, "no scale down stabilization, reuse element");
    assert_eq!(stabilise(&[(600, 10), (540, 9)], 60, 300, 1, 100), 100, "no scale up stabilization, reuse element");
    assert_eq!(
        stabilise(&[(600, 10), (540, 9), (120, 5), (60, 4)], 0, 150, 100, 3),
        5,
        "scale down, obsolete elements"
    );
    assert_eq!(
        stabilise(&[(6000, 10), (180, 9), (120, 5), (60, 6)], 150, 300, 1, 100),
        5,
        "scale up, obsolete elements"
    );
}

/// What is left of a wish under policies, with changes (by how much, all within the period) in the past.
fn limited(
    up: Rules,
    down: Rules,
    (min, max): (u32, u32),
    ups: &[u32],
    downs: &[u32],
    current: u32,
    desired: u32,
) -> (u32, Reason) {
    let config = Horizontal { min, max, up, down, ..config() };
    let mut history = History::default();
    history.changed(0, 42, NOW.before(seconds(121)));
    history.changed(42, 0, NOW.before(seconds(121)));
    for n in ups {
        history.changed(0, *n, NOW.before(seconds(10)));
    }
    for n in downs {
        history.changed(*n, 0, NOW.before(seconds(10)));
    }
    history.limit(&config, current, desired, NOW)
}

fn rules(select: Select, count: Option<u32>, percent: Option<u32>) -> Rules {
    let period = seconds(120);
    let count = count.map(|value| Rate::Count { value, period });
    let percent = percent.map(|value| Rate::Percent { value, period });
    Rules { window: Duration::ZERO, select, policies: count.into_iter().chain(percent).collect() }
}

#[test]
fn policies_bound_the_rise() {
    // TestScalingWithRules, scale up.
    let up = |rules, max, ups: &[u32], current, desired| {
        limited(rules, Rules::default(), (1, max), ups, &[], current, desired)
    };
    let (most, least) = (Select::Max, Select::Min);
    assert_eq!(up(Rules::default(), 1000, &[], 10, 50), (20, Reason::UpLimit), "default behaviour");
    assert_eq!(
        up(rules(most, Some(100), Some(100)), 1000, &[], 10, 500),
        (110, Reason::UpLimit),
        "pods larger than percent"
    );
    assert_eq!(
        up(rules(most, Some(2), Some(100)), 1000, &[], 10, 500),
        (20, Reason::UpLimit),
        "percent larger than pods"
    );
    assert_eq!(up(rules(least, Some(2), Some(100)), 1000, &[], 10, 500), (12, Reason::UpLimit), "min policy");
    assert_eq!(up(rules(Select::Disabled, Some(100), None), 1000, &[], 10, 50), (10, Reason::UpLimit), "disabled");
    assert_eq!(up(rules(most, Some(100), None), 1000, &[], 10, 50), (50, Reason::WithinRange));
    assert_eq!(up(rules(most, Some(30), None), 1000, &[], 10, 50), (40, Reason::UpLimit));
    assert_eq!(up(rules(most, None, Some(200)), 1000, &[], 10, 50), (30, Reason::UpLimit));
    assert_eq!(
        up(rules(most, None, Some(100)), 1000, &[1, 2, 3, 4, 5], 100, 500),
        (170, Reason::UpLimit),
        "(100 - 15) + 100 %"
    );
    assert_eq!(up(rules(most, Some(300), None), 200, &[1, 5, 9], 100, 500), (200, Reason::TooMany));
    assert_eq!(
        up(rules(most, Some(5), None), 1000, &[1, 5, 9], 100, 500),
        (100, Reason::UpLimit),
        "policy changed after many events"
    );
    assert_eq!(up(rules(most, Some(150), None), 1000, &[1, 5, 9], 100, 500), (235, Reason::UpLimit), "100 - 15 + 150");
    assert_eq!(
        up(rules(most, None, Some(200)), 1000, &[1, 5, 9], 100, 500),
        (255, Reason::UpLimit),
        "(100 - 15) + 200 %"
    );
    assert_eq!(up(rules(most, None, Some(10)), 1000, &[], 1, 5), (2, Reason::UpLimit), "a part of one is still one");
}

#[test]
fn policies_bound_the_fall() {
    // TestScalingWithRules, scale down.
    let down = |rules, min, downs: &[u32], current, desired| {
        limited(Rules::default(), rules, (min, 1000), &[], downs, current, desired)
    };
    let (most, least) = (Select::Max, Select::Min);
    assert_eq!(down(rules(most, None, Some(100)), 1, &[], 10, 5), (5, Reason::WithinRange), "default");
    assert_eq!(
        down(rules(least, Some(20), Some(1)), 1, &[], 100, 2),
        (99, Reason::DownLimit),
        "pods larger than percent, min"
    );
    assert_eq!(
        down(rules(least, Some(2), Some(10)), 1, &[], 100, 2),
        (98, Reason::DownLimit),
        "percent larger than pods, min"
    );
    assert_eq!(down(rules(most, Some(2), Some(10)), 1, &[], 100, 2), (90, Reason::DownLimit), "max policy");
    assert_eq!(down(rules(Select::Disabled, Some(100), None), 1, &[], 10, 2), (10, Reason::DownLimit), "disabled");
    assert_eq!(down(rules(most, Some(100), None), 1, &[], 10, 0), (1, Reason::TooFew));
    assert_eq!(down(rules(most, None, Some(100)), 5, &[], 10, 2), (5, Reason::TooFew));
    assert_eq!(down(rules(most, Some(5), None), 1, &[], 10, 2), (5, Reason::DownLimit));
    assert_eq!(down(rules(most, Some(115), None), 1, &[1, 5, 9], 100, 0), (1, Reason::TooFew));
    assert_eq!(down(rules(most, Some(5), None), 1, &[1, 5, 9], 100, 2), (100, Reason::DownLimit), "100 + 15 - 5");
    assert_eq!(down(rules(most, None, Some(50)), 1, &[2, 4, 6], 100, 0), (56, Reason::DownLimit), "(100 + 12) - 50 %");
    assert_eq!(
        down(rules(most, None, Some(10)), 1, &[10, 10, 10], 100, 0),
        (100, Reason::DownLimit),
        "117 is more than there is"
    );
    assert_eq!(
        down(rules(most, None, Some(1000)), 1, &[10, 10, 10], 10, 5),
        (5, Reason::WithinRange),
        "1000 % is all of them"
    );
}

#[test]
fn bounds_come_before_metrics_and_none_is_left_alone() {
    let decide = |min, max, current| {
        let verdict = Horizontal { min, max, ..config() }.decide(&mut History::default(), current, &[], &[], NOW);
        (verdict.desired, verdict.reason)
    };
    assert_eq!(decide(1, 5, 0), (0, Reason::Disabled));
    assert_eq!(decide(1, 5, 9), (5, Reason::TooMany));
    assert_eq!(decide(3, 5, 1), (3, Reason::TooFew));
    assert_eq!(decide(1, 5, 4), (4, Reason::NoMetrics));
}

#[test]
fn a_controller_that_has_just_started_does_not_shrink_for_a_whole_window() {
    // TestScaleDownStabilizeInitialSize.
    let (config, mut history) = (config(), History::default());
    let metric = |now| {
        let sample = Sample { value: 10.0, at: now, window: seconds(15) };
        Metric { name: "qps".into(), target: 100.0, measured: Measured::Average(vec![Some(sample); 5]) }
    };
    for second in (0..300).step_by(15) {
        let now = NOW + seconds(second);
        let verdict = config.decide(&mut history, 5, &[running(); 5], &[metric(now)], now);
        assert_eq!((verdict.desired, verdict.reason), (5, Reason::DownStabilised), "after {second} s");
    }
    let now = NOW + seconds(300);
    assert_eq!(config.decide(&mut history, 5, &[running(); 5], &[metric(now)], now).desired, 1);
}

#[test]
fn errors_of_configuration_name_the_key() {
    let text = "min = 9\nmax = 5\ntolerance = -0.1\n[up]\nwindow = \"2h\"\npolicies = [{ type = \"count\", value = 0, period = \"2h\" }]\n[down]\npolicies = []";
    let keys: Vec<_> =
        toml::from_str::<Horizontal>(text).unwrap().validate().unwrap_err().0.into_iter().map(|e| e.key).collect();
    assert_eq!(
        keys,
        ["min", "tolerance", "up.window", "up.policies[0].period", "up.policies[0].value", "down.policies"]
    );
    assert!(toml::from_str::<Horizontal>("maximum = 3").unwrap_err().to_string().contains("maximum"));
    assert!(
        toml::from_str::<Horizontal>("initialisation = \"5\"").unwrap_err().to_string().contains("no span of time")
    );
    Horizontal::default().validate().unwrap();
    let text = toml::to_string(&Horizontal::default()).unwrap();
    assert_eq!(toml::from_str::<Horizontal>(&text).unwrap(), Horizontal::default());
}

proptest! {
    #[test]
    fn a_higher_measurement_never_asks_for_less(
        current in 1_u32..40, values in prop::collection::vec(prop::option::of(0.0..500.0_f64), 1..40), more in 0.0..200.0_f64,
    ) {
        let replicas = vec![running(); values.len()];
        let ask = |plus: f64| {
            let samples = values.iter().map(|v| v.map(|v| Sample { value: v + plus, at: NOW, window: seconds(15) })).collect();
            let metric = Metric { name: "m".into(), target: 100.0, measured: Measured::Average(samples) };
            config().propose(current, &replicas, &metric, NOW).ok().map(|p| p.replicas)
        };
        // The original keeps the count when its two ratios disagree or are near 1: monotone only where both move it.
        if let (Some(less), Some(greater)) = (ask(0.0), ask(more)) {
            prop_assert!(less <= greater || less == current || greater == current);
        }
    }

    #[test]
    fn the_count_stays_within_bounds_and_rates_whatever_is_measured(
        min in 0_u32..5, span in 1_u32..50, steps in prop::collection::vec((prop::num::f64::ANY, 0_u64..600), 1..60),
    ) {
        let config = Horizontal { min, max: min + span, ..Horizontal::default() };
        let (mut history, mut current, mut now) = (History::default(), min.max(1), NOW);
        let mut past: Vec<(Moment, u32)> = Vec::new();
        for (value, wait) in steps {
            now = now + seconds(wait);
            let replicas = vec![running(); current as usize];
            let metric = Metric { name: "m".into(), target: 10.0, measured: Measured::Share(Some(value)) };
            let verdict = config.decide(&mut history, current, &replicas, &[metric], now);
            prop_assert!((config.min..=config.max).contains(&verdict.desired));
            prop_assert!(value.is_finite() && value >= 0.0 || verdict.desired == current, "held on what is no number");
            // What was there within the period may come back at once.
            past.retain(|(at, _)| now.since(*at) < seconds(15));
            past.push((now, current));
            let most = past.iter().map(|(_, n)| (2 * n).max(n + 4)).max().unwrap();
            prop_assert!(verdict.desired <= most);
            if verdict.desired != current {
                history.changed(current, verdict.desired, now);
                current = verdict.desired;
            }
            if current == 0 { break; }
        }
    }
}
