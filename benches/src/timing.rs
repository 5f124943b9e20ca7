//! What `Server-Timing` tells (<https://www.w3.org/TR/server-timing/>), whatever the server calls its phases.

use std::time::Duration;

use crate::latencies::Latencies;

/// One phase of one response.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Phase<'a> {
    name: &'a str,
    took: Duration,
    description: &'a str,
}

/// The phases of many responses, in the order in which they were told of first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phases(Vec<Of>);

#[derive(Clone, Debug)]
struct Of {
    name: String,
    latencies: Latencies,
    descriptions: Vec<(String, u64)>,
}

impl Phases {
    /// Adds what one response tells. Metrics without a duration are no phases.
    pub(crate) fn add(&mut self, server_timing: &str) {
        for Phase { name, took, description } in server_timing.split(',').filter_map(phase) {
            let known = self.0.iter().position(|of| of.name == name);
            let index = known.unwrap_or_else(|| {
                let (latencies, descriptions) = (Latencies::default(), Vec::new());
                self.0.push(Of { name: name.to_owned(), latencies, descriptions });
                self.0.len() - 1
            });
            let of = &mut self.0[index];
            of.latencies.add(took);
            if !description.is_empty() {
                match of.descriptions.iter_mut().find(|(known, _)| known == description) {
                    Some((_, count)) => *count += 1,
                    None => of.descriptions.push((description.to_owned(), 1)),
                }
            }
        }
    }

    /// How often a phase was told of with this description, or with any.
    pub(crate) fn count(&self, name: &str, description: Option<&str>) -> u64 {
        let Some(of) = self.0.iter().find(|of| of.name == name) else { return 0 };
        match description {
            None => of.latencies.count(),
            Some(description) => {
                of.descriptions.iter().filter(|(known, _)| known == description).map(|(_, count)| count).sum()
            }
        }
    }

    /// Every phase with its latencies.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, &Latencies)> {
        self.0.iter().map(|of| (of.name.as_str(), &of.latencies))
    }
}

fn phase(text: &str) -> Option<Phase<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next()?;
    let (mut took, mut description) = (None, "");
    for part in parts {
        match part.split_once('=') {
            Some(("dur", millis)) => took = Duration::try_from_secs_f64(millis.parse::<f64>().ok()? / 1e3).ok(),
            Some(("desc", text)) => description = text.trim_matches('"'),
            _ => {}
        }
    }
    took.map(|took| Phase { name, took, description })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_whatever_they_are_called() {
        let mut phases = Phases::default();
        phases.add("route;dur=0.010, isolate;dur=1.5;desc=unpooled, function;dur=0.25, cache;desc=hit");
        phases.add("isolate;desc=\"pooled\";dur=0.5");
        phases.add("isolate, function;dur=-1, total;dur=x");
        let counts = |name| (phases.count(name, None), phases.count(name, Some("unpooled")));
        assert_eq!(
            [counts("isolate"), counts("function"), counts("cache"), counts("total")],
            [(2, 1), (1, 0), (0, 0), (0, 0)]
        );
        let names: Vec<_> = phases.each().map(|(name, of)| (name, of.micros(1.0).unwrap().round())).collect();
        assert_eq!(names, [("route", 10.0), ("isolate", 1500.0), ("function", 250.0)]);
    }
}
