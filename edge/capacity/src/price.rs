//! The price book: what computing, storing and sending cost, each price with its unit, place, date and source.
//!
//! The book is a file of data ([`EMBEDDED`], `prices.toml`) that anybody can replace. [`PriceBook::parse`] collects every
//! error with its line and key, so that a person corrects the file once; a book that parses is complete, so that no
//! calculation can meet a missing price. All amounts of a book are in one currency: nothing here converts.

mod date;
mod key;
mod money;
mod parse;

pub use date::Date;
pub use key::{Key, Unit};
pub use money::Money;
pub use parse::{PriceError, PriceErrors};

/// The book that comes with the program.
pub const EMBEDDED: &str = include_str!("../prices.toml");

/// Hours of a month in every calculation: a year's 8760 hours over 12.
pub const MONTH_HOURS: f64 = 730.0;

/// Where prices come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name in the book.
    pub name: String,
    /// For which place the price holds.
    pub region: String,
    /// When it was read there.
    pub date: Date,
    /// What was read.
    pub text: String,
    /// Whether nobody has compared it with the seller's page.
    pub unverified: bool,
}

/// One price.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// In the book's currency, for one unit; finite and not negative.
    pub amount: f64,
    /// Of what.
    pub unit: Unit,
    /// Index into [`PriceBook::sources`].
    source: usize,
}

/// A machine for hire.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// The seller's name for it.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in GB (2^30 bytes).
    pub memory_gb: f64,
    /// An hour, without any commitment.
    pub on_demand: Price,
    /// An hour, for one year, used or not.
    pub reserved_1y: Price,
    /// An hour, for three years, used or not.
    pub reserved_3y: Price,
    /// An hour that ends with two minutes of notice when somebody pays more.
    pub spot: Price,
}

/// A machine of one's own.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnNode {
    /// A name for it.
    pub name: String,
    /// Virtual processors (hardware threads).
    pub vcpus: u32,
    /// Memory in GB (2^30 bytes).
    pub memory_gb: f64,
    /// Months over which its purchase is paid off.
    pub life_months: u32,
    /// Power that it draws on average.
    pub watts: f64,
    /// Rack units that it takes.
    pub rack_units: f64,
    /// What it costs once.
    pub purchase: Price,
}

/// All prices, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceBook {
    /// Three letters.
    pub currency: String,
    /// In the file's order.
    pub sources: Vec<Source>,
    prices: Vec<Price>,
    /// At least one.
    pub instances: Vec<Instance>,
    /// May be empty.
    pub own: Vec<OwnNode>,
}

/// A price that should be looked at before it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The source of the prices in question.
    pub source: String,
    /// Days since it was read, when that is too long.
    pub stale_days: Option<i64>,
    /// Whether nobody has compared it.
    pub unverified: bool,
    /// What it says.
    pub text: String,
}

impl PriceBook {
    /// Reads a book.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with line and key.
    pub fn parse(text: &str) -> Result<Self, PriceErrors> {
        parse::parse(text)
    }

    /// The book that comes with the program.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED).expect("the embedded price book is sound")
    }

    /// The price of one unit.
    #[must_use]
    pub fn of(&self, key: Key) -> f64 {
        self.price(key).amount
    }

    /// A price with its unit and source.
    #[must_use]
    pub fn price(&self, key: Key) -> &Price {
        &self.prices[key as usize]
    }

    /// Where a price comes from.
    #[must_use]
    pub fn source(&self, price: &Price) -> &Source {
        &self.sources[price.source]
    }

    /// This book with one price multiplied. What the planner asks "and if it were dearer?" with.
    #[must_use]
    pub fn scaled(&self, target: &Target, factor: f64) -> Self {
        let mut book = self.clone();
        match target {
            Target::Key(key) => book.prices[*key as usize].amount *= factor,
            Target::OnDemand => book.instances.iter_mut().for_each(|it| it.on_demand.amount *= factor),
            Target::Reserved1y => book.instances.iter_mut().for_each(|it| it.reserved_1y.amount *= factor),
            Target::Reserved3y => book.instances.iter_mut().for_each(|it| it.reserved_3y.amount *= factor),
            Target::Spot => book.instances.iter_mut().for_each(|it| it.spot.amount *= factor),
            Target::Purchase => book.own.iter_mut().for_each(|it| it.purchase.amount *= factor),
        }
        book
    }

    /// Sources older than `max_age_days` on the day `today`, and those that nobody has verified.
    #[must_use]
    pub fn doubts(&self, today: Date, max_age_days: i64) -> Vec<Doubt> {
        let doubt = |source: &Source| {
            let age = today.days_since(source.date);
            let stale_days = (age > max_age_days).then_some(age);
            (stale_days.is_some() || source.unverified).then(|| Doubt {
                source: source.name.clone(),
                stale_days,
                unverified: source.unverified,
                text: source.text.clone(),
            })
        };
        self.sources.iter().filter_map(doubt).collect()
    }
}

/// A price, or the prices of one way of hiring, that move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A single price.
    Key(Key),
    /// Of all instances.
    OnDemand,
    /// Of all instances.
    Reserved1y,
    /// Of all instances.
    Reserved3y,
    /// Of all instances.
    Spot,
    /// Of all own machines.
    Purchase,
}

impl Target {
    /// Its name, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key(key) => key.as_str(),
            Self::OnDemand => "instances on demand",
            Self::Reserved1y => "instances reserved for 1 year",
            Self::Reserved3y => "instances reserved for 3 years",
            Self::Spot => "spot instances",
            Self::Purchase => "own machines",
        }
    }
}

#[cfg(test)]
mod tests;
