//! Flags of metering, which `skerry pop` has and `skerry up` passes on; and the price book of every command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use capacity::price::{OwnNode, PriceBook};
use clap::Args;

use crate::output::Failure;
use crate::units;

/// Largest price book, in bytes.
const MAX_BOOK_BYTES: u64 = 4 << 20;

/// How a PoP meters.
#[derive(Clone, Debug, Args)]
pub(crate) struct MeterArgs {
    /// How often a PoP writes to disk what functions have used, and delivers it to the origin, 100ms to 1h. A PoP that is
    /// killed loses at most what was used in this time; the brake of a budget acts within twice this time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = every)]
    meter_every: Duration,
    /// A price book in place of the one that comes with skerry, for budgets
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

impl MeterArgs {
    /// Between two deliveries.
    pub(crate) const fn every(&self) -> Duration {
        self.meter_every
    }

    /// The price book.
    ///
    /// # Errors
    /// When the file is no price book, or one that says nothing of own machines.
    pub(crate) fn prices(&self) -> Result<PriceBook, Failure> {
        let prices = book(self.prices.as_deref())?;
        own_machine(&prices)?;
        Ok(prices)
    }

    /// The same as arguments of `skerry pop`.
    ///
    /// # Errors
    /// When the file cannot be had.
    pub(crate) fn arguments(&self) -> Result<Vec<OsString>, Failure> {
        self.prices()?;
        let mut arguments = vec!["--meter-every".into(), format!("{}ms", self.meter_every.as_millis()).into()];
        if let Some(prices) = &self.prices {
            // The printed commands work from everywhere.
            arguments.extend(["--prices".into(), std::path::absolute(prices)?.into_os_string()]);
        }
        Ok(arguments)
    }
}

fn every(text: &str) -> Result<Duration, String> {
    let every = units::duration(text)?;
    let sound = (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&every);
    if sound { Ok(every) } else { Err("the time between two deliveries is 100ms to 1h".to_owned()) }
}

/// The machine on which functions are thought to run: the first of one's own.
///
/// # Errors
/// When there is none.
pub(crate) fn own_machine(prices: &PriceBook) -> Result<&OwnNode, Failure> {
    let missing = || Failure::Failed("the price book has no machine of one's own: add an [own.NAME] to it".to_owned());
    prices.own.first().ok_or_else(missing)
}

/// The price book of a file, or the one that comes with the program.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn book(path: Option<&Path>) -> Result<PriceBook, Failure> {
    let Some(path) = path else { return Ok(PriceBook::embedded()) };
    let text = super::read_text(path, MAX_BOOK_BYTES).map_err(Failure::Failed)?;
    PriceBook::parse(&text)
        .map_err(|errors| Failure::Failed(format!("the price book {} is wrong:\n{errors}", path.display())))
}
