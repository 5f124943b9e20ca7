//! What was asked for and what was changed in the last while.

use std::time::Duration;

use super::{Horizontal, Rate, Reason, Rules, Select};
use crate::Moment;

/// More than these are not kept of each list, the oldest go first: an hour's window at a look every second.
const MOST: usize = 3600;

/// The past of one count, as far as a decision needs it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What the metrics asked for.
    asked: Vec<(Moment, u32)>,
    /// By how much the count rose.
    ups: Vec<(Moment, u32)>,
    /// By how much it fell.
    downs: Vec<(Moment, u32)>,
}

impl History {
    /// The count that is found at first stands for what was asked for before, so that a controller that starts does not
    /// lower it before a whole window has passed.
    pub fn begin(&mut self, current: u32, now: Moment) {
        if self.asked.is_empty() {
            self.asked.push((now, current));
        }
    }

    /// The caller has changed the count.
    pub fn changed(&mut self, from: u32, to: u32, now: Moment) {
        let list = if to > from { &mut self.ups } else { &mut self.downs };
        remember(list, now, from.abs_diff(to), Duration::from_secs(1800));
    }

    /// Keeps the count between the least that was asked for in the window for rising and the most in the window for
    /// falling; then remembers what is asked for now.
    pub fn stabilise(&mut self, config: &Horizontal, current: u32, asked: u32, now: Moment) -> u32 {
        let within =
            |window: Duration| self.asked.iter().filter(move |(at, _)| now.since(*at) < window).map(|(_, n)| *n);
        let least = within(config.up.window).fold(asked, u32::min);
        let most = within(config.down.window).fold(asked, u32::max);
        remember(&mut self.asked, now, asked, config.up.window.max(config.down.window));
        current.max(least).min(most)
    }

    /// Keeps the change within the policies, and the count within its bounds.
    pub fn limit(&self, config: &Horizontal, current: u32, desired: u32, now: Moment) -> (u32, Reason) {
        if desired > current {
            let allowed = self.up_limit(&config.up, current, now).max(current);
            if desired > allowed.min(config.max) {
                return if config.max > allowed { (allowed, Reason::UpLimit) } else { (config.max, Reason::TooMany) };
            }
        } else if desired < current {
            let allowed = self.down_limit(&config.down, current, now).min(current);
            if desired < allowed.max(config.min) {
                return if config.min < allowed { (allowed, Reason::DownLimit) } else { (config.min, Reason::TooFew) };
            }
        }
        (desired, Reason::WithinRange)
    }

    fn up_limit(&self, rules: &Rules, current: u32, now: Moment) -> u32 {
        let limits = rules.policies.iter().map(|rate| {
            let start = self.at_start(current, rate.period(), now);
            match *rate {
                Rate::Count { value, .. } => start.saturating_add(value.into()),
                // Rounded up: a part of a few must still be one.
                Rate::Percent { value, .. } => start.saturating_mul(100 + u64::from(value)).div_ceil(100),
            }
        });
        let limit = match rules.select {
            Select::Disabled => return current,
            Select::Min => limits.min(),
            Select::Max => limits.max(),
        };
        limit.map_or(current, |limit| u32::try_from(limit).unwrap_or(u32::MAX))
    }

    fn down_limit(&self, rules: &Rules, current: u32, now: Moment) -> u32 {
        let limits = rules.policies.iter().map(|rate| {
            let start = self.at_start(current, rate.period(), now);
            match *rate {
                Rate::Count { value, .. } => start.saturating_sub(value.into()),
                Rate::Percent { value, .. } => start.saturating_mul(100_u64.saturating_sub(value.into())) / 100,
            }
        });
        let limit = match rules.select {
            Select::Disabled => return current,
            Select::Min => limits.max(),
            Select::Max => limits.min(),
        };
        limit.map_or(current, |limit| u32::try_from(limit).unwrap_or(u32::MAX))
    }

    /// The count when the period that ends now began.
    fn at_start(&self, current: u32, period: Duration, now: Moment) -> u64 {
        let sum = |list: &[(Moment, u32)]| -> u64 {
            list.iter().filter(|(at, _)| now.since(*at) < period).map(|(_, change)| u64::from(*change)).sum()
        };
        (u64::from(current) + sum(&self.downs)).saturating_sub(sum(&self.ups))
    }
}

fn remember(list: &mut Vec<(Moment, u32)>, now: Moment, value: u32, longest: Duration) {
    list.retain(|(at, _)| now.since(*at) <= longest);
    if list.len() >= MOST {
        list.remove(0);
    }
    list.push((now, value));
}
