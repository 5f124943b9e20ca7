//! Quantiles of arrivals and Erlang's formulas.

/// The smallest count that is exceeded with no more than `1 - part`: arrivals with this mean and index of dispersion.
/// Poisson up to 1, negative binomial above.
pub(crate) fn arrivals(mean: f64, dispersion: f64, part: f64) -> usize {
    if !(mean.is_finite() && mean > 0.0) {
        return 0;
    }
    let dispersion = if dispersion.is_finite() { dispersion.max(1.0) } else { 1.0 };
    // In a negative binomial with `size` and a chance of 1/dispersion, the variance is dispersion times the mean.
    let excess = dispersion - 1.0;
    let size = mean / excess;
    let poisson = excess < 1e-6;
    let none = if poisson { (-mean).exp() } else { dispersion.powf(-size) };
    if none < 1e-300 {
        // Far from 0: near enough to a normal distribution. The cast saturates.
        return (mean + normal(part) * (mean * dispersion).sqrt()).ceil() as usize;
    }
    let (mut chance, mut sum) = (none, none);
    let mut count = 0_usize;
    // Beyond, the sum does not grow any more: rounding must not make it endless.
    let most = (mean + 50.0 * (mean * dispersion).sqrt() + 100.0 * dispersion) as usize;
    while sum < part && count < most {
        count += 1;
        let k = count as f64;
        chance *= if poisson { mean / k } else { (size + k - 1.0) / k * (excess / dispersion) };
        sum += chance;
    }
    count
}

/// The part of the load that `servers` without a queue lose; the load in Erlang (mean busy servers if there were enough).
pub fn erlang_b(servers: usize, load: f64) -> f64 {
    (1..=servers).fold(1.0, |blocked, n| erlang_b_step(blocked, n, load))
}

pub(crate) fn erlang_b_step(blocked: f64, n: usize, load: f64) -> f64 {
    load * blocked / (n as f64 + load * blocked)
}

/// The part of the load that has to wait before `servers` with a queue; 1 when they cannot carry it.
pub fn erlang_c(servers: usize, load: f64) -> f64 {
    let n = servers as f64;
    if load.is_nan() || load >= n {
        return 1.0;
    }
    let blocked = erlang_b(servers, load);
    n * blocked / (n - load * (1.0 - blocked))
}

/// The quantile of the standard normal distribution, by Acklam's rational approximation (relative error below 1.2e-9).
pub(crate) fn normal(part: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
        1.0,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] =
        [0.007_784_695_709_041_462, 0.322_467_129_070_039_8, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0];
    let horner = |terms: &[f64], x: f64| terms.iter().fold(0.0, |sum, term| sum * x + term);
    let part = part.clamp(1e-15, 1.0 - 1e-15);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        horner(&C, q) / horner(&D, q)
    };
    if part < 0.02425 {
        tail(part)
    } else if part > 1.0 - 0.02425 {
        -tail(1.0 - part)
    } else {
        let q = part - 0.5;
        horner(&A, q * q) * q / horner(&B, q * q)
    }
}
