//! A scenario from its file: whatever is wrong is told with its line and its key.

use std::fmt;

use toml::de::{DeTable, DeValue};

use super::Scenario;
use crate::invalid::Invalid;
use crate::load::log::Trace;

/// Why a file is no scenario.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Wrong {
    /// It is no TOML, or a key is unknown, missing or of another kind; the message shows the line.
    #[error("{0}")]
    Text(#[from] toml::de::Error),
    /// Keys that cannot be used, all of them.
    #[error("{0}")]
    Keys(Keys),
}

/// Keys that cannot be used, each with the line where it stands or, when it does not stand there, of what should hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(pub Vec<(usize, Invalid)>);

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (line, invalid)) in self.0.iter().enumerate() {
            write!(f, "{}line {line}: {invalid}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl Scenario {
    /// From TOML.
    ///
    /// # Errors
    /// Everything that is wrong, with lines and keys.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse_under(text, None)
    }

    /// From TOML, under a load that was recorded in place of its own. It lasts until the last request, and a moment longer.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_under(text: &str, trace: Option<Trace>) -> Result<Self, Wrong> {
        let mut scenario: Self = toml::from_str(text)?;
        scenario.complete();
        if let Some(trace) = trace {
            scenario.play_back(trace);
        }
        let lined = |invalid: Invalid| (line(text, &invalid.key), invalid);
        scenario.validate().map_err(|wrong| Wrong::Keys(Keys(wrong.0.into_iter().map(lined).collect())))?;
        Ok(scenario)
    }
}

/// The line of a key such as `pops[1].share`, counted from 1.
fn line(text: &str, key: &str) -> usize {
    let Ok(document) = DeTable::parse(text) else { return 1 };
    let mut table = Some(document.get_ref());
    let mut at = 0;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let found = table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == name));
        let Some((key, mut value)) = found else { break };
        at = key.span().start;
        if let (DeValue::Array(array), Some(index)) = (value.get_ref(), index) {
            let Some(element) = array.get(index) else { break };
            (at, value) = (element.span().start, element);
        }
        table = match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => None,
        };
    }
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = include_str!("../../../scenarios/three-pops.toml");

    #[test]
    fn the_scenarios_beside_the_crate_are_sound() {
        for text in
            [SOUND, include_str!("../../../scenarios/flash-sale.toml"), include_str!("../../../scenarios/planet.toml")]
        {
            Scenario::parse(text).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_key() {
        let wrong = "name = 'x'\nduration = '1h'\n[load]\nrate = -1\n[functions]\n[[pops]]\nname = 'a'\n[[pops]]\nshare = -2\nclient = '900ms'\n";
        let told = Scenario::parse(wrong).unwrap_err().to_string();
        for part in ["line 4: `load.rate` ", "line 9: `pops[1].share` ", "line 10: `pops[1].client` is 900ms"] {
            assert!(told.contains(part), "{part} is not in:\n{told}");
        }
        let told = Scenario::parse("name = 'x'\nduration = '1h'\ntypo = 1").unwrap_err().to_string();
        assert!(told.contains("line 3") && told.contains("typo"), "{told}");
        let told = Scenario::parse("name = 'x'\nduration = 'soon'").unwrap_err().to_string();
        assert!(told.contains("line 2") && told.contains("is no span of time"), "{told}");
    }

    #[test]
    fn a_load_that_nobody_can_play_is_refused() {
        let told = Scenario::parse(&SOUND.replacen("rate = ", "rate = 1e8 #", 1)).unwrap_err().to_string();
        assert!(told.contains("requests, and 1e9 are the most"), "{told}");
    }
}
