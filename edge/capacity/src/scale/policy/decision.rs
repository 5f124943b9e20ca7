//! A decision as data.

use std::fmt::Write;

use serde::Serialize;

use crate::Moment;

/// What has a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Nothing: the count is held.
    Hold,
    /// Measurements against targets.
    Horizontal,
    /// Requests in flight.
    Concurrency,
    /// What is expected.
    Forecast,
    /// A lower count has not been enough for long.
    Settle,
    /// The configured minimum.
    Min,
    /// An entry of the schedule.
    Schedule,
    /// The configured maximum.
    Max,
    /// The room on the nodes.
    Room,
}

impl Rule {
    /// As a label, a log field and a header value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Horizontal => "horizontal",
            Self::Concurrency => "concurrency",
            Self::Forecast => "forecast",
            Self::Settle => "settle",
            Self::Min => "min",
            Self::Schedule => "schedule",
            Self::Max => "max",
            Self::Room => "room",
        }
    }
}

/// In which way it has a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It measures what is needed now; when it cannot, the count does not fall.
    Asks,
    /// It expects what will be needed; when it cannot, nothing is lost.
    Foresees,
    /// No fewer than this.
    Least,
    /// No more than this; it goes before the least.
    Most,
}

/// Why the count is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The clock went back: no window can be measured.
    ClockBack,
    /// The clock went ahead, or nothing was decided for long.
    ClockAhead,
    /// The newest measurement is too old, or of a time that is not yet.
    Stale,
    /// Nothing was measured.
    NoMetrics,
    /// Some of what is measured is missing, and the rest asks for less.
    SomeMissing,
}

impl Hold {
    /// As a label, a log field and a header value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClockBack => "clock_back",
            Self::ClockAhead => "clock_ahead",
            Self::Stale => "stale",
            Self::NoMetrics => "no_metrics",
            Self::SomeMissing => "some_missing",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::ClockBack => "the clock went back",
            Self::ClockAhead => "the clock went ahead further than two decisions are apart",
            Self::Stale => "the newest measurement is too old, or of a time that is not yet",
            Self::NoMetrics => "nothing was measured",
            Self::SomeMissing => "a measurement is missing and the others ask for less",
        }
    }
}

/// One layer's part in a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Which.
    pub rule: Rule,
    /// In which way it has a say.
    pub role: Role,
    /// What it went by, with names.
    pub inputs: Vec<(String, f64)>,
    /// How it came to its result.
    pub formula: &'static str,
    /// The result; `None` when it could not tell.
    pub result: Option<u32>,
    /// What else it says: its reason's name.
    pub note: String,
}

/// How many there should be, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// When it was made.
    pub at: Moment,
    /// What it is about.
    pub subject: String,
    /// So many were there.
    pub current: u32,
    /// So many should be.
    pub desired: u32,
    /// What decided.
    pub decided_by: Rule,
    /// Why the count was held, if it was.
    pub held: Option<Hold>,
    /// What every layer said.
    pub layers: Vec<Layer>,
}

impl Decision {
    pub(super) fn new(subject: &str, current: u32, at: Moment) -> Self {
        Self {
            at,
            subject: subject.to_owned(),
            current,
            desired: current,
            decided_by: Rule::Hold,
            held: None,
            layers: Vec::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        rule: Rule,
        role: Role,
        result: Option<u32>,
        formula: &'static str,
        inputs: &[(&str, f64)],
    ) {
        let inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        self.layers.push(Layer { rule, role, inputs, formula, result, note: String::new() });
    }

    /// Says more about the layer that was added last.
    pub(super) fn note(&mut self, note: &str) {
        if let Some(layer) = self.layers.last_mut() {
            note.clone_into(&mut layer.note);
        }
    }

    pub(super) fn hold(&mut self, hold: Hold) {
        self.held = Some(hold);
    }

    /// What the measurements ask for; when something is missing, no less than is there, which is then held.
    pub(super) fn asked(&mut self) -> u32 {
        let asks = || self.layers.iter().filter(|layer| layer.role == Role::Asks);
        let most = asks().filter_map(|layer| layer.result).max();
        let missing = asks().any(|layer| layer.result.is_none());
        match most {
            _ if self.held.is_some() => self.current,
            None => {
                self.held = Some(Hold::NoMetrics);
                self.current
            }
            Some(most) if missing && most < self.current => {
                self.held = Some(Hold::SomeMissing);
                self.current
            }
            Some(most) => most,
        }
    }

    /// The most that is asked for or foreseen, unless the count is held.
    pub(super) fn most_asked(&self) -> Option<u32> {
        let asks = self.layers.iter().filter(|layer| matches!(layer.role, Role::Asks | Role::Foresees));
        asks.filter_map(|layer| layer.result).max().filter(|_| self.held.is_none())
    }

    /// Puts the layers together.
    pub(super) fn conclude(&mut self) {
        let (mut desired, mut by) = if self.held.is_some() { (self.current, Rule::Hold) } else { (0, Rule::Hold) };
        let layers = |role| {
            self.layers
                .iter()
                .filter(move |layer| layer.role == role)
                .filter_map(|layer| Some((layer.result?, layer.rule)))
        };
        for (result, rule) in layers(Role::Asks).chain(layers(Role::Foresees)).chain(layers(Role::Least)) {
            if result > desired || (by == Rule::Hold && self.held.is_none()) {
                (desired, by) = (result, rule);
            }
        }
        for (result, rule) in layers(Role::Most) {
            if result < desired {
                (desired, by) = (result, rule);
            }
        }
        (self.desired, self.decided_by) = (desired, by);
    }

    /// The decision in sentences.
    pub fn explain(&self) -> String {
        let mut text = match self.desired.cmp(&self.current) {
            std::cmp::Ordering::Equal => format!("{} stays at {}", self.subject, self.current),
            std::cmp::Ordering::Greater => format!("{} rises from {} to {}", self.subject, self.current, self.desired),
            std::cmp::Ordering::Less => format!("{} falls from {} to {}", self.subject, self.current, self.desired),
        };
        match self.held {
            Some(hold) if self.decided_by == Rule::Hold => {
                _ = write!(text, ": it is held, because {}.", hold.sentence())
            }
            Some(hold) => {
                _ = write!(text, " by {}; it would be held, because {}.", self.decided_by.as_str(), hold.sentence())
            }
            None => _ = write!(text, " by {}.", self.decided_by.as_str()),
        }
        for layer in &self.layers {
            text.push('\n');
            text.push_str(&layer.explain());
        }
        text
    }
}

impl Layer {
    /// What the layer says, in a sentence.
    pub fn explain(&self) -> String {
        let verb = match self.role {
            Role::Asks => "asks for",
            Role::Foresees => "foresees",
            Role::Least => "wants at least",
            Role::Most => "allows at most",
        };
        let mut text = match self.result {
            Some(result) => format!("{} {verb} {result}: {}", self.rule.as_str(), self.formula),
            None => format!("{} cannot tell: {}", self.rule.as_str(), self.formula),
        };
        for (i, (name, value)) in self.inputs.iter().enumerate() {
            // Three digits are enough to follow it.
            _ = write!(text, "{}{name} = {}", if i == 0 { ", with " } else { ", " }, (value * 1000.0).round() / 1000.0);
        }
        if !self.note.is_empty() {
            _ = write!(text, " ({})", self.note);
        }
        text.push('.');
        text
    }
}
