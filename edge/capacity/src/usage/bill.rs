//! What a usage costs under each compute model: a bill whose lines add up exactly.

use serde::Serialize;

use super::Usage;
use crate::price::{Key, MONTH_HOURS, Money, OwnNode, PriceBook};

/// Lambda gives one virtual processor for this much memory, in MB.
pub const LAMBDA_MB_PER_VCPU: f64 = 1769.0;
/// Least memory of a Lambda function, in MB.
pub const LAMBDA_MIN_MB: f64 = 128.0;

/// Who sells by use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metered {
    /// AWS Lambda on Arm.
    LambdaArm,
    /// AWS Lambda on x86.
    LambdaX86,
    /// Lambda@Edge: at CloudFront's regional caches.
    LambdaEdge,
    /// CloudFront Functions: under a millisecond, no network.
    CloudFrontFunctions,
    /// Cloudflare Workers, Standard.
    Workers,
    /// Vercel Functions, Pro.
    Vercel,
    /// Deno Deploy, Pro.
    Deno,
}

impl Metered {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::LambdaArm,
        Self::LambdaX86,
        Self::LambdaEdge,
        Self::CloudFrontFunctions,
        Self::Workers,
        Self::Vercel,
        Self::Deno,
    ];

    /// Its name, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LambdaArm => "Lambda (Arm)",
            Self::LambdaX86 => "Lambda (x86)",
            Self::LambdaEdge => "Lambda@Edge",
            Self::CloudFrontFunctions => "CloudFront Functions",
            Self::Workers => "Cloudflare Workers",
            Self::Vercel => "Vercel",
            Self::Deno => "Deno Deploy",
        }
    }
}

/// How a bill is made.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Memory that a function is given, in MB (2^20 bytes), where memory is bought by the function.
    pub memory_mb: f64,
    /// How much of a month the usage covers, from above 0 to 1: plans and allowances count in proportion.
    pub months: f64,
    /// Whether what is free, or included in a plan, is taken off.
    pub allowances: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { memory_mb: LAMBDA_MIN_MB, months: 1.0, allowances: true }
    }
}

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What was sold.
    pub what: String,
    /// How much of it, beyond what is included.
    pub quantity: f64,
    /// In this unit.
    pub unit: &'static str,
    /// Its price.
    pub amount: Money,
    /// Nobody has compared the price with the seller's page.
    pub unverified: bool,
}

/// What something costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bill {
    /// Every line, none of them for nothing used.
    pub lines: Vec<Line>,
}

impl Bill {
    /// The sum of the lines, exact.
    #[must_use]
    pub fn total(&self) -> Money {
        self.lines.iter().map(|line| line.amount).sum()
    }

    /// Whether a price in it is unverified.
    #[must_use]
    pub fn is_unverified(&self) -> bool {
        self.lines.iter().any(|line| line.unverified)
    }

    fn line(&mut self, prices: &PriceBook, key: Key, what: &str, used: f64, included: f64) {
        let quantity = (used - included).max(0.0);
        if quantity > 0.0 {
            let amount = Money::from_f64(quantity * prices.of(key));
            let unverified = prices.source(prices.price(key)).unverified;
            self.lines.push(Line { what: what.to_owned(), quantity, unit: key.unit().as_str(), amount, unverified });
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact to 2^53; beyond, to one part in 10^15")]
fn float(value: u64) -> f64 {
    value as f64
}

/// GB-seconds that Lambda counts: the time of a function in whole milliseconds (on average half a millisecond more than
/// it took), times its memory. Below [`LAMBDA_MB_PER_VCPU`] the processor is slower in proportion.
#[must_use]
pub fn lambda_gb_seconds(usage: &Usage, memory_mb: f64) -> f64 {
    let memory = memory_mb.max(LAMBDA_MIN_MB);
    let waited = float(usage.wall_us.saturating_sub(usage.cpu_us));
    let computed = float(usage.cpu_us) * (LAMBDA_MB_PER_VCPU / memory).max(1.0);
    ((waited + computed) / 1e6 + float(usage.invocations) * 0.5e-3) * memory / 1024.0
}

/// What a usage would cost at a seller by use, with the bytes it sent. Who runs functions behind a CDN's cache sells
/// invocations, who runs them in front of it sells requests.
#[must_use]
pub fn metered(model: Metered, usage: &Usage, prices: &PriceBook, terms: &Terms) -> Bill {
    let mut bill = Bill::default();
    let month = terms.months;
    let free = |amount: f64| if terms.allowances { amount * month } else { 0.0 };
    let (millions, invocations) = (float(usage.requests) / 1e6, float(usage.invocations) / 1e6);
    let cpu_hours = float(usage.cpu_us) / 3.6e9;
    let gb_hours = float(usage.memory_mb_ms) / 1024.0 / 3.6e6;
    let gb_out = float(usage.bytes_out) / 1e9;
    let mut line = |key, what: &str, used, included| bill.line(prices, key, what, used, free(included));
    match model {
        Metered::LambdaArm | Metered::LambdaX86 => {
            let duration = if model == Metered::LambdaArm { Key::LambdaArm } else { Key::LambdaX86 };
            line(Key::LambdaRequests, "requests", invocations, 1.0);
            line(duration, "duration", lambda_gb_seconds(usage, terms.memory_mb), 400_000.0);
            line(Key::AwsEgress, "data out", gb_out, 100.0);
        }
        Metered::LambdaEdge => {
            line(Key::LambdaEdgeRequests, "requests", invocations, 0.0);
            line(Key::LambdaEdgeDuration, "duration", lambda_gb_seconds(usage, terms.memory_mb), 0.0);
            line(Key::CdnRequests, "requests to the CDN", millions, 10.0);
            line(Key::CdnNorthAmerica, "data out", gb_out, 1000.0);
        }
        Metered::CloudFrontFunctions => {
            line(Key::CloudFrontFunctions, "requests", millions, 2.0);
            line(Key::CdnRequests, "requests to the CDN", millions, 10.0);
            line(Key::CdnNorthAmerica, "data out", gb_out, 1000.0);
        }
        Metered::Workers => {
            line(Key::WorkersRequests, "requests", millions, 10.0);
            line(Key::WorkersCpu, "CPU time", float(usage.cpu_us) / 1e9, 30.0);
            bill.line(prices, Key::WorkersBase, "plan", month, 0.0);
        }
        Metered::Vercel => {
            line(Key::VercelRequests, "requests", invocations, 1.0);
            line(Key::VercelCpu, "CPU time", cpu_hours, 16.0);
            line(Key::VercelMemory, "memory", gb_hours, 1440.0);
            line(Key::VercelEgress, "data out", gb_out, 1000.0);
            bill.line(prices, Key::VercelBase, "plan", month, 0.0);
        }
        Metered::Deno => {
            line(Key::DenoRequests, "requests", millions, 5.0);
            line(Key::DenoCpu, "CPU time", cpu_hours, 40.0);
            line(Key::DenoMemory, "memory", gb_hours, 1000.0);
            line(Key::DenoEgress, "data out", gb_out, 200.0);
            bill.line(prices, Key::DenoBase, "plan", month, 0.0);
        }
    }
    bill
}

/// What `nodes` machines of one's own cost over a part of a month, and what they send.
#[must_use]
pub fn own(node: &OwnNode, nodes: f64, usage: &Usage, prices: &PriceBook, terms: &Terms) -> Bill {
    let mut bill = Bill::default();
    let paid_off = nodes * terms.months / f64::from(node.life_months);
    if paid_off > 0.0 {
        let amount = Money::from_f64(paid_off * node.purchase.amount);
        bill.lines.push(Line {
            what: format!("{} (of its price)", node.name),
            quantity: paid_off,
            unit: node.purchase.unit.as_str(),
            amount,
            unverified: prices.source(&node.purchase).unverified,
        });
    }
    bill.line(prices, Key::OwnPower, "power", nodes * node.watts / 1000.0 * MONTH_HOURS * terms.months, 0.0);
    bill.line(prices, Key::OwnColocation, "colocation", nodes * node.rack_units * terms.months, 0.0);
    bill.line(prices, Key::OwnEgress, "data out", float(usage.bytes_out) / 1e9, 0.0);
    bill
}

/// What a usage costs on machines of one's own: the part of a machine's month that its processor time takes, and what
/// it sends. In proportion to the usage, so that the bills of functions add up to that of their sum; what machines cost
/// while they are idle is nobody's.
#[must_use]
pub fn own_share(node: &OwnNode, usage: &Usage, prices: &PriceBook) -> Bill {
    let cpu_hours = float(usage.cpu_us) / 3.6e9;
    own(node, cpu_hours / f64::from(node.vcpus) / MONTH_HOURS, usage, prices, &Terms::default())
}

/// Who stores objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// Amazon S3, Standard.
    S3,
    /// Google Cloud Storage, Standard.
    Gcs,
    /// Cloudflare R2, Standard.
    R2,
}

/// What a usage's objects cost: stored, written, read, and the bytes of cache fills, which leave the store.
#[must_use]
pub fn stored(store: Store, usage: &Usage, fill_bytes: u64, prices: &PriceBook) -> Bill {
    let mut bill = Bill::default();
    let [storage, writes, reads, egress] = match store {
        Store::S3 => [Key::S3Storage, Key::S3Writes, Key::S3Reads, Key::S3Egress],
        Store::Gcs => [Key::GcsStorage, Key::GcsWrites, Key::GcsReads, Key::GcsEgress],
        Store::R2 => [Key::R2Storage, Key::R2Writes, Key::R2Reads, Key::R2Egress],
    };
    bill.line(prices, storage, "storage", float(usage.stored_mb_hours) / 1000.0 / MONTH_HOURS, 0.0);
    bill.line(prices, writes, "writes and lists", float(usage.object_writes) / 1e6, 0.0);
    bill.line(prices, reads, "reads", float(usage.object_reads) / 1e6, 0.0);
    bill.line(prices, egress, "data out to caches", float(fill_bytes) / 1e9, 0.0);
    bill
}
