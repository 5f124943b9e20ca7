//! Loads that were recorded: a PoP's own log, a public trace as CSV, or a time a line.
//!
//! - A PoP's log: the lines of its target `access`; others are passed over. A line is written when a request is over, so
//!   that it came `millis` before. Where `cpu_us` is told, that occupied a worker and the rest was waiting; where it is
//!   not, all of it counts as occupying one.
//! - CSV with a head: `timestamp` (milliseconds since the Unix epoch), `function`, `duration_ms`; or the columns of the
//!   Azure Functions invocation trace of 2021, `app,func,end_timestamp,duration`, in seconds. Others are passed over.
//! - A time a line, in milliseconds since the Unix epoch.

mod fields;

use std::collections::HashMap;

use super::LoadError;
use super::process::Recorded;
use crate::simulate::chance::nanos;

/// Most requests of one log; 5,000,000 take 240 MB.
const MOST_REQUESTS: usize = 5_000_000;
/// Most functions, and most PoPs.
const MOST_NAMES: usize = 100_000;
/// Lines of a log may be out of order by so many seconds: several workers write it.
const SLACK: f64 = 1.0;

/// Why a log cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LogError {
    /// There is no request in it.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// A line makes no sense.
    #[error("line {line}: {problem}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// A recorded load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The requests, by when they came; the first at 0.
    pub requests: Vec<Recorded>,
    /// Names of the functions, by their numbers.
    pub functions: Vec<String>,
    /// Names of the PoPs, by their numbers.
    pub pops: Vec<String>,
    /// When the first came, in seconds since the Unix epoch.
    pub began: f64,
}

impl Trace {
    /// When each came, in milliseconds since the Unix epoch.
    pub fn times_ms(&self) -> Vec<u64> {
        let began = nanos(self.began);
        self.requests.iter().map(|request| (began + request.at) / 1_000_000).collect()
    }
}

/// A log while it is read, line by line.
#[derive(Debug, Default)]
pub struct Log {
    format: Option<Format>,
    line: usize,
    /// When the newest line so far was written.
    newest: f64,
    requests: Vec<(f64, Recorded)>,
    functions: Names,
    pops: Names,
}

/// What the lines look like. Numbers are those of columns.
#[derive(Clone, Copy, Debug)]
enum Format {
    Times,
    Access,
    Csv { time: usize, function: usize, duration: usize, azure: bool },
}

/// One request, in seconds: when its line was written, and when it came.
struct Line<'a> {
    written: f64,
    came: f64,
    function: &'a str,
    pop: Option<&'a str>,
    service: f64,
    wait: f64,
}

#[derive(Debug, Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn number(&mut self, name: &str) -> Result<u32, String> {
        if let Some(number) = self.0.get(name) {
            return Ok(*number);
        }
        if self.0.len() >= MOST_NAMES || name.len() > 512 {
            return Err(format!("there are more than {MOST_NAMES} names, or one is longer than 512 bytes"));
        }
        let number = self.0.len() as u32;
        self.0.insert(name.to_owned(), number);
        Ok(number)
    }

    fn all(self) -> Vec<String> {
        let mut names: Vec<_> = self.0.into_iter().collect();
        names.sort_unstable_by_key(|(_, number)| *number);
        names.into_iter().map(|(name, _)| name).collect()
    }
}

impl Log {
    /// The next line, without its end.
    ///
    /// # Errors
    /// When it makes no sense, is far out of order, or one too much.
    pub fn line(&mut self, text: &str) -> Result<(), LogError> {
        self.line += 1;
        self.add(text).map_err(|problem| LogError::Line { line: self.line, problem })
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let Some(format) = self.format else {
            let format = Format::of(text)?;
            self.format = Some(format);
            return if matches!(format, Format::Csv { .. }) { Ok(()) } else { self.add(text) };
        };
        let Some(line) = format.read(text)? else { return Ok(()) };
        if line.written < self.newest - SLACK {
            let back = self.newest - line.written;
            return Err(format!("it goes back by {back:.3} s: the log is not in order, sort it by time"));
        }
        self.newest = self.newest.max(line.written);
        if self.requests.len() >= MOST_REQUESTS {
            return Err(format!("it is one request too many: {MOST_REQUESTS} are the most, so take a part of the log"));
        }
        let function = self.functions.number(line.function)?;
        let pop = line.pop.map(|pop| self.pops.number(pop)).transpose()?;
        let (service, wait) = (nanos(line.service), nanos(line.wait));
        self.requests.push((line.came, Recorded { function, service, wait, pop, ..Recorded::default() }));
        Ok(())
    }

    /// All lines were there.
    ///
    /// # Errors
    /// When there was no request.
    pub fn done(mut self) -> Result<Trace, LogError> {
        // Those that took longer are told of later.
        self.requests.sort_by(|a, b| a.0.total_cmp(&b.0));
        let began = self.requests.first().ok_or(LoadError::Empty)?.0;
        let request = |(came, recorded): (f64, Recorded)| Recorded { at: nanos(came - began), ..recorded };
        Ok(Trace {
            requests: self.requests.into_iter().map(request).collect(),
            functions: self.functions.all(),
            pops: self.pops.all(),
            began,
        })
    }

    /// A whole log.
    ///
    /// # Errors
    /// The first line that makes no sense, or that there is none.
    pub fn parse(text: &str) -> Result<Trace, LogError> {
        let mut log = Self::default();
        text.lines().try_for_each(|line| log.line(line))?;
        log.done()
    }
}

impl Format {
    fn of(first: &str) -> Result<Self, String> {
        if first.trim().bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Times);
        }
        if fields::time(first).is_some() {
            return Ok(Self::Access);
        }
        let names: Vec<String> = first.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        let at = |name: &str| names.iter().position(|known| known == name);
        match (at("timestamp"), at("function"), at("duration_ms")) {
            (Some(time), Some(function), Some(duration)) => {
                return Ok(Self::Csv { time, function, duration, azure: false });
            }
            (None, None, None) => {}
            _ => return Err("the head needs all of timestamp, function and duration_ms".to_owned()),
        }
        match (at("end_timestamp"), at("func"), at("duration")) {
            (Some(time), Some(function), Some(duration)) => Ok(Self::Csv { time, function, duration, azure: true }),
            _ => Err("is neither a line of a PoP's log, nor a time in milliseconds, nor a CSV head with timestamp,function,duration_ms \
                      or with app,func,end_timestamp,duration"
                .to_owned()),
        }
    }

    /// What a line tells; nothing when it is none of a request.
    fn read(self, text: &str) -> Result<Option<Line<'_>>, String> {
        match self {
            Self::Times => {
                let problem = |_| "is no time in milliseconds since the Unix epoch".to_owned();
                let came = text.trim().parse::<u64>().map_err(problem)? as f64 / 1e3;
                Ok(Some(Line { written: came, came, function: "-", pop: None, service: 0.0, wait: 0.0 }))
            }
            Self::Access => access(text),
            Self::Csv { time, function, duration, azure } => {
                let columns: Vec<&str> = text.split(',').map(str::trim).collect();
                let column = |at: usize| columns.get(at).copied().ok_or(format!("has no column {}", at + 1));
                let number = |at: usize| {
                    let text = column(at)?;
                    let sound = |value: &f64| value.is_finite() && *value >= 0.0;
                    text.parse::<f64>().ok().filter(sound).ok_or(format!("{text:?} is no number of at least 0"))
                };
                let unit = if azure { 1.0 } else { 1e3 };
                let (written, service) = (number(time)? / unit, number(duration)? / unit);
                let came = if azure { written - service } else { written };
                Ok(Some(Line { written, came, function: column(function)?, pop: None, service, wait: 0.0 }))
            }
        }
    }
}

fn access(text: &str) -> Result<Option<Line<'_>>, String> {
    let (written, rest) = fields::time(text).ok_or("does not begin with a time such as 2026-11-27T12:41:11.2Z")?;
    // Between them stands how grave it is.
    let Some((_, rest)) = rest.split_once(" access: ") else { return Ok(None) };
    let field = |name: &str| fields::fields(rest).find(|(key, _)| *key == name).map(|(_, value)| value);
    let number = |name: &str| match field(name) {
        None => Ok(None),
        Some(text) => {
            let sound = |value: &f64| value.is_finite() && *value >= 0.0;
            let problem = || format!("{name}={text} is no number of at least 0");
            text.parse::<f64>().ok().filter(sound).map(Some).ok_or_else(problem)
        }
    };
    let took = number("millis")?.ok_or("has no millis: the line is cut off")? / 1e3;
    let cpu = number("cpu_us")?.map_or(took, |cpu| (cpu / 1e6).min(took));
    let function = field("function").ok_or("has no function: the line is cut off")?;
    let function = function.split('@').next().unwrap_or(function);
    Ok(Some(Line { written, came: written - took, function, pop: field("pop"), service: cpu, wait: took - cpu }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ACCESS: &str = "2026-11-27T12:41:02.500000Z  INFO pop::admin: the admin listener is up pop=lhr
2026-11-27T12:41:11.200000Z  INFO access: pop=lhr method=GET path=\"/a b millis=9\" status=200 function=burn@83aae5d72eb4 request_id=1 millis=100.0
2026-11-27T12:41:11.250000Z ERROR access: the worker is lost pop=iad method=GET path=\"/\" status=500 function=- request_id=2 millis=200.0 cpu_us=50000
";

    #[test]
    fn a_pops_log_is_read_and_its_other_lines_are_passed_over() {
        let trace = Log::parse(ACCESS).unwrap();
        assert_eq!((trace.functions, trace.pops), (vec!["burn".into(), "-".into()], vec!["lhr".into(), "iad".into()]));
        let [first, second] = trace.requests[..] else { panic!("{:?}", trace.requests) };
        assert_eq!((first.at, first.function, first.service, first.wait), (0, 1, 50_000_000, 150_000_000));
        assert!(second.at.abs_diff(50_000_000) < 1000 && second.function == 0 && second.service == 100_000_000);
        assert!((trace.began - 1_795_783_271.05).abs() < 1e-3, "{}", trace.began);
    }

    #[test]
    fn public_traces_are_read_by_their_heads() {
        let ours = Log::parse("timestamp,function,duration_ms\n1000,a,5\n2000,b,7.5\n").unwrap();
        assert_eq!(ours.requests[1].at, 1_000_000_000);
        assert_eq!(ours.requests[1].service, 7_500_000);
        let azure = Log::parse("app,func,end_timestamp,duration\nx,f,10.0,2\nx,g,10.5,0.25\n").unwrap();
        assert_eq!((azure.began, azure.requests[1].at), (8.0, 2_250_000_000));
        assert_eq!(Log::parse("1000\n\n3000\n").unwrap().times_ms(), [1000, 3000]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &str| Log::parse(text).unwrap_err().to_string();
        assert!(told("").contains("the trace is empty"));
        assert!(told("2026-11-27T12:41:02.5Z  INFO pop: up\n").contains("the trace is empty"));
        assert!(told("5000\n1000\n").starts_with("line 2: it goes back by 4.000 s"));
        assert!(told("5\nx\n").starts_with("line 2: is no time"));
        assert!(told("timestamp,function\n").starts_with("line 1: the head needs all of"));
        assert!(told("hello\n").starts_with("line 1: is neither"));
        assert!(told("timestamp,function,duration_ms\n1,a,-5\n").starts_with("line 2: \"-5\" is no number"));
        assert!(told("timestamp,function,duration_ms\n1,a\n").starts_with("line 2: has no column 3"));
        let cut = ACCESS.find("millis=100").unwrap();
        assert!(told(&ACCESS[..cut]).starts_with("line 2: has no millis"));
    }

    proptest! {
        #[test]
        fn nothing_panics_whatever_a_log_holds(first in "[ -~]{0,40}", rest in prop::collection::vec("[ -~é\"\\\\]{0,80}", 0..4)) {
            for head in [first.as_str(), "timestamp,function,duration_ms", "2026-11-27T12:41:02.5Z  INFO access: pop=a"] {
                let _ = Log::parse(&format!("{head}\n{}", rest.join("\n")));
                let _ = Log::parse(&format!("2026-11-27T12:41:02.5Z  INFO access: {head}{}", rest.join("\n")));
            }
        }
    }
}
