/// Of what a price is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One hour of one machine.
    Hour,
    /// One GB (2^30 bytes) of memory for one second.
    GbSecond,
    /// One GB of memory for one hour.
    GbHour,
    /// One virtual processor for one hour.
    VcpuHour,
    /// One hour of processor time that was used.
    CpuHour,
    /// A million milliseconds of processor time that was used.
    MillionCpuMs,
    /// A million requests.
    MillionRequests,
    /// 10^9 bytes sent.
    Gb,
    /// 10^9 bytes stored for a month.
    GbMonth,
    /// A month of a plan.
    Month,
    /// A kilowatt hour.
    Kwh,
    /// A rack unit for a month.
    RackUnitMonth,
    /// One machine, bought.
    Machine,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Hour,
        Self::GbSecond,
        Self::GbHour,
        Self::VcpuHour,
        Self::CpuHour,
        Self::MillionCpuMs,
        Self::MillionRequests,
        Self::Gb,
        Self::GbMonth,
        Self::Month,
        Self::Kwh,
        Self::RackUnitMonth,
        Self::Machine,
    ];

    /// As it stands in a book.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::GbSecond => "GB-s",
            Self::GbHour => "GB-hour",
            Self::VcpuHour => "vCPU-hour",
            Self::CpuHour => "CPU-hour",
            Self::MillionCpuMs => "million CPU-ms",
            Self::MillionRequests => "million requests",
            Self::Gb => "GB",
            Self::GbMonth => "GB-month",
            Self::Month => "month",
            Self::Kwh => "kWh",
            Self::RackUnitMonth => "rack unit-month",
            Self::Machine => "machine",
        }
    }

    /// The unit that a book names.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == name)
    }
}

macro_rules! keys {
    ($($name:ident $text:literal $unit:ident)*) => {
        /// A price that every book has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Key { $(#[doc = $text] $name,)* }

        impl Key {
            /// All of them, in the order of the enum.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it stands in a book.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The unit that its amount is of.
            #[must_use]
            pub fn unit(self) -> Unit {
                match self { $(Self::$name => Unit::$unit,)* }
            }
        }
    };
}

keys! {
    LambdaRequests "lambda.requests" MillionRequests
    LambdaX86 "lambda.x86" GbSecond
    LambdaArm "lambda.arm" GbSecond
    LambdaProvisioned "lambda.provisioned" GbSecond
    LambdaProvisionedDuration "lambda.provisioned_duration" GbSecond
    LambdaEdgeRequests "lambda_edge.requests" MillionRequests
    LambdaEdgeDuration "lambda_edge.duration" GbSecond
    CloudFrontFunctions "cloudfront_functions.requests" MillionRequests
    WorkersBase "workers.base" Month
    WorkersRequests "workers.requests" MillionRequests
    WorkersCpu "workers.cpu" MillionCpuMs
    VercelBase "vercel.base" Month
    VercelRequests "vercel.requests" MillionRequests
    VercelCpu "vercel.cpu" CpuHour
    VercelMemory "vercel.memory" GbHour
    VercelEgress "vercel.egress" Gb
    DenoBase "deno.base" Month
    DenoRequests "deno.requests" MillionRequests
    DenoCpu "deno.cpu" CpuHour
    DenoMemory "deno.memory" GbHour
    DenoEgress "deno.egress" Gb
    FargateCpu "fargate.cpu" VcpuHour
    FargateMemory "fargate.memory" GbHour
    FargateSpotCpu "fargate.spot_cpu" VcpuHour
    FargateSpotMemory "fargate.spot_memory" GbHour
    AwsEgress "aws.egress" Gb
    CdnRequests "cdn.requests" MillionRequests
    CdnNorthAmerica "cdn.egress.north_america" Gb
    CdnEurope "cdn.egress.europe" Gb
    CdnAfricaMiddleEast "cdn.egress.africa_middle_east" Gb
    CdnSouthAmerica "cdn.egress.south_america" Gb
    CdnJapan "cdn.egress.japan" Gb
    CdnAustralia "cdn.egress.australia" Gb
    CdnAsia "cdn.egress.asia" Gb
    CdnIndia "cdn.egress.india" Gb
    S3Storage "s3.storage" GbMonth
    S3Writes "s3.writes" MillionRequests
    S3Reads "s3.reads" MillionRequests
    S3Egress "s3.egress" Gb
    GcsStorage "gcs.storage" GbMonth
    GcsWrites "gcs.writes" MillionRequests
    GcsReads "gcs.reads" MillionRequests
    GcsEgress "gcs.egress" Gb
    R2Storage "r2.storage" GbMonth
    R2Writes "r2.writes" MillionRequests
    R2Reads "r2.reads" MillionRequests
    R2Egress "r2.egress" Gb
    OwnPower "own.power" Kwh
    OwnColocation "own.colocation" RackUnitMonth
    OwnEgress "own.egress" Gb
}
