use crate::plan::offer::km_in_ms;
use crate::plan::{Demand, MAX_STREAMS, PlanError, Question, Stream};

/// Refuses a question that makes no sense, with everything that is wrong with it.
pub(super) fn check(question: &Question) -> Result<(), PlanError> {
    let mut wrong = Vec::new();
    if question.streams.is_empty() || question.streams.len() > MAX_STREAMS {
        wrong.push(format!("there must be 1 to {MAX_STREAMS} streams, not {}", question.streams.len()));
    }
    if question.places.is_empty() {
        wrong.push("there is no place where anything could run".to_owned());
    }
    if question.kinds.is_empty() {
        wrong.push("nothing may be bought: name at least one kind of capacity".to_owned());
    }
    for (index, stream) in question.streams.iter().enumerate() {
        if question.streams[..index].iter().any(|other| other.name == stream.name) {
            wrong.push(format!("there are two streams with the name \"{}\"", stream.name));
        }
        check_stream(stream, &mut wrong);
    }
    for place in &question.places {
        if !(0.0..=20_040.0).contains(&place.distance_km) {
            wrong.push(format!("place \"{}\": distance_km must be 0 to 20040, half around the Earth", place.name));
            continue;
        }
        let least = km_in_ms(place.distance_km);
        match place.rtt_ms {
            Some(rtt) if !(rtt >= least && rtt <= 60_000.0) => wrong.push(format!(
                "place \"{}\": a round trip of {rtt} ms over {} km cannot be: light in fibre takes {least:.1} ms",
                place.name, place.distance_km
            )),
            _ => {}
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(PlanError::Question(wrong.join("\n"))) }
}

fn check_stream(stream: &Stream, wrong: &mut Vec<String>) {
    let name = &stream.name;
    let mut check = |sound: bool, problem: &str| {
        if !sound {
            wrong.push(format!("stream \"{name}\": {problem}"));
        }
    };
    let work = &stream.work;
    let time = 0.0..=86_400_000.0;
    check(work.cpu_ms > 0.0 && time.contains(&work.cpu_ms), "cpu_ms must be above 0 and at most a day");
    check(time.contains(&work.wait_ms), "wait_ms must be 0 to a day");
    check(
        work.p99_ms.is_none_or(|p99| p99 >= work.cpu_ms && time.contains(&p99)),
        "p99_ms of the work must be cpu_ms to a day",
    );
    check(work.memory_mb > 0.0 && work.memory_mb <= 1e6, "memory_mb must be above 0 and at most 1000000");
    let bytes = 0.0..=1e13;
    check(
        bytes.contains(&work.request_bytes) && bytes.contains(&work.response_bytes),
        "bodies must be 0 to 1e13 bytes",
    );
    let objective = &stream.objective;
    check(objective.p99_ms.is_none_or(|p99| p99 > 0.0 && p99.is_finite()), "p99_ms of the objective must be above 0");
    check(
        objective.error_budget.is_none_or(|budget| (0.0..=1.0).contains(&budget)),
        "error_budget must be a share from 0 to 1",
    );
    match &stream.demand {
        Demand::Requests(week) => {
            let sound =
                week.hours().iter().all(|hour| hour.mean >= 0.0 && hour.peak >= hour.mean && hour.peak.is_finite());
            check(sound && week.peak() > 0.0, "the load must have rates of 0 or more, and one above");
        }
        Demand::Batch { cores, minutes, hour } => {
            check(*cores > 0, "cores must be at least 1");
            check(*minutes > 0.0 && *minutes <= 60.0, "minutes must be above 0 and at most 60");
            check(*hour < 24, "hour must be 0 to 23");
        }
    }
}
