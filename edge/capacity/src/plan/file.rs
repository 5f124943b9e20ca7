//! A question as a file.

use serde::Deserialize;

use super::{Demand, EdgeLimits, Kind, Objective, Place, Question, Stream, Work};
use crate::load::log::Log;
use crate::load::{Described, LoadError, Week};
use crate::price::PriceBook;

/// Largest file read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FileError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "stream")]
    streams: Vec<StreamFile>,
    #[serde(rename = "place")]
    places: Vec<Place>,
    kinds: Option<Vec<Kind>>,
    #[serde(default)]
    own_machines: u32,
    #[serde(default)]
    edge_limits: EdgeLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamFile {
    name: String,
    work: Work,
    objective: Option<Objective>,
    #[serde(default)]
    interruptible: bool,
    load: Option<Described>,
    trace: Option<String>,
    batch: Option<Batch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    cores: u32,
    minutes: f64,
    hour: u8,
}

impl Question {
    /// Reads a question from TOML: `[[place]]`, `[[stream]]` with one of `load` (described), `trace` (a file that `read`
    /// gives: any of [`crate::load::log`]) and `batch`. Streams without an objective get `objective`, and those without any
    /// of the three have the trace `log`.
    ///
    /// # Errors
    /// What is wrong, with the line or the stream.
    pub fn parse(
        text: &str,
        objective: Option<&Objective>,
        prices: PriceBook,
        log: Option<&str>,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, FileError> {
        if text.len() > MAX_BYTES {
            return Err(FileError(format!("the file is larger than {MAX_BYTES} bytes")));
        }
        let file: File = toml::from_str(text).map_err(|error| FileError(error.to_string().trim_end().to_owned()))?;
        let mut wrong = Vec::new();
        let mut streams = Vec::with_capacity(file.streams.len());
        for mut stream in file.streams {
            if stream.load.is_none() && stream.trace.is_none() && stream.batch.is_none() {
                stream.trace = log.map(str::to_owned);
            }
            match stream.demand(read) {
                Ok(demand) => streams.push(Stream {
                    name: stream.name,
                    demand,
                    work: stream.work,
                    objective: stream.objective.or_else(|| objective.cloned()).unwrap_or_default(),
                    interruptible: stream.interruptible,
                }),
                Err(problems) => {
                    wrong.extend(problems.into_iter().map(|it| format!("stream \"{}\": {it}", stream.name)))
                }
            }
        }
        if !wrong.is_empty() {
            return Err(FileError(wrong.join("\n")));
        }
        Ok(Self {
            streams,
            places: file.places,
            kinds: file.kinds.unwrap_or_else(|| Kind::ALL.to_vec()),
            own_machines: file.own_machines,
            edge_limits: file.edge_limits,
            prices,
        })
    }
}

impl StreamFile {
    fn demand(&self, read: &dyn Fn(&str) -> Result<String, String>) -> Result<Demand, Vec<String>> {
        let said = |errors: Vec<LoadError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        match (&self.load, &self.trace, &self.batch) {
            (Some(load), None, None) => Ok(Demand::Requests(load.week().map_err(said)?)),
            (None, Some(name), None) => {
                let text = read(name).map_err(|error| vec![error])?;
                let said = |error: &dyn std::fmt::Display| vec![format!("trace {name}: {error}")];
                let trace = Log::parse(&text).map_err(|error| said(&error))?;
                Ok(Demand::Requests(Week::from_arrivals(&trace.times_ms()).map_err(|error| said(&error))?))
            }
            (None, None, Some(batch)) => {
                Ok(Demand::Batch { cores: batch.cores, minutes: batch.minutes, hour: batch.hour })
            }
            _ => Err(vec!["needs exactly one of load, trace and batch".to_owned()]),
        }
    }
}

/// Reads an objective from one line: `p99=200ms,errors=0.1%,residency=EU+CH`, each part once at most.
///
/// # Errors
/// Which part makes no sense.
pub fn objective(text: &str) -> Result<Objective, FileError> {
    let mut objective = Objective::default();
    let wrong = |part: &str| {
        FileError(format!("\"{part}\" is no part of an objective: as in p99=200ms,errors=0.1%,residency=EU+CH"))
    };
    for part in text.split(',').map(str::trim) {
        let (key, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
        match key.trim() {
            "p99" => {
                let (number, factor) = match value.strip_suffix("ms") {
                    Some(number) => (number, 1.0),
                    None => (value.strip_suffix('s').ok_or_else(|| wrong(part))?, 1000.0),
                };
                objective.p99_ms = Some(positive(number).ok_or_else(|| wrong(part))? * factor);
            }
            "errors" => {
                let share = value.strip_suffix('%').and_then(positive).ok_or_else(|| wrong(part))? / 100.0;
                objective.error_budget = Some(share);
            }
            "residency" => objective.residency = value.split('+').map(|it| it.trim().to_owned()).collect(),
            _ => return Err(wrong(part)),
        }
    }
    Ok(objective)
}

fn positive(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| *value > 0.0 && value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
own_machines = 2
[[place]]
name = "fra"
kind = "edge"
distance_km = 300
[[place]]
name = "eu-west"
kind = "region"
distance_km = 900
rtt_ms = 40
[[stream]]
name = "api"
work = { cpu_ms = 4, wait_ms = 10, memory_mb = 64 }
load = { base = 50, weekend = 0.5 }
[[stream]]
name = "old"
work = { cpu_ms = 4, memory_mb = 64 }
objective = { p99_ms = 5000 }
trace = "old.trace"
[[stream]]
name = "night"
work = { cpu_ms = 60000, memory_mb = 64 }
batch = { cores = 4, minutes = 30, hour = 2 }
"#;

    fn parse(text: &str, trace: Result<&str, &str>) -> Result<Question, String> {
        let read = |_: &str| trace.map(str::to_owned).map_err(str::to_owned);
        let objective = objective("p99=0.3s, errors=0.1%, residency=EU+CH").unwrap();
        Question::parse(text, Some(&objective), PriceBook::embedded(), None, &read).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_a_question() {
        let question = parse(FILE, Ok("1000\n2000\n")).unwrap();
        assert_eq!(question.streams.len(), 3);
        assert_eq!(question.streams[0].objective.p99_ms, Some(300.0));
        assert_eq!(question.streams[0].objective.residency, ["EU", "CH"]);
        assert_eq!(question.streams[1].objective.p99_ms, Some(5000.0));
        assert_eq!(question.kinds, Kind::ALL);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let changed = |from: &str, to: &str| parse(&FILE.replace(from, to), Ok("1\n2\n")).unwrap_err();
        assert!(changed("wait_ms", "wate_ms").contains("wate_ms"));
        assert!(changed("base = 50", "base = -50").contains("stream \"api\": base: must be requests a second"));
        assert!(changed("batch =", "load = { base = 1 }\nbatch =").contains("stream \"night\": needs exactly one of"));
        assert!(changed("kind = \"edge\"", "kind = \"moon\"").contains("line 5"));
        assert!(
            parse(FILE, Ok("9000\n5000\n")).unwrap_err().contains("trace old.trace: line 2: it goes back by 4.000 s")
        );
        assert!(parse(FILE, Ok("")).unwrap_err().contains("the trace is empty"));
        assert!(parse(FILE, Ok("12:00")).unwrap_err().contains("line 1: is neither"));
        assert!(parse(FILE, Err("no such file")).unwrap_err().contains("no such file"));
        for text in ["p99", "p99=fast", "p99=-1ms", "p99=nans", "errors=2", "speed=1ms", ""] {
            assert!(objective(text).is_err(), "{text}");
        }
    }
}
