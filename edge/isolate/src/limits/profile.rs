//! Limits under the names of the platforms people come from: what a function may count on there, it may count on here.
//!
//! A profile is data, with the vendor's page that it was taken from. Where a page and this table differ, the table gives
//! more, and `differs` says so. A project file picks one as `limits.profile`; single values override it.

use super::{Limit, Row, TABLE};

/// The limits of a platform.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Value of `limits.profile`.
    pub name: &'static str,
    /// What differs from the defaults, each in the unit of its row. It may be outside of what a PoP gives.
    pub values: &'static [(Limit, u64)],
    /// It is meant for a region node, with more memory and time than a PoP has.
    pub region: bool,
    /// The page of the vendor.
    pub source: &'static str,
    /// What of the platform's limits is not kept, or otherwise than there; empty when all of it is.
    pub differs: &'static str,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const CLOUDFLARE: &str = "https://developers.cloudflare.com/workers/platform/limits/";
const CLOUDFRONT: &str = "https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html";

/// Every profile.
pub const PROFILES: [Profile; 7] = [
    Profile {
        name: "cloudflare-workers",
        values: &[
            (Limit::Cpu, 30_000),
            (Limit::Startup, 1_000),
            (Limit::Wall, 300_000),
            (Limit::Heap, 128 * MIB),
            (Limit::Buffers, 128 * MIB),
            (Limit::Wasm, 128 * MIB),
            (Limit::Subrequests, 10_000),
            (Limit::Connections, 6),
            (Limit::RequestBody, 100 * MIB),
            (Limit::Headers, 128 * KIB),
            (Limit::WaitUntil, 30_000),
            (Limit::Log, 256 * KIB),
        ],
        region: false,
        source: CLOUDFLARE,
        differs: "the paid plan's default, of which cpu_ms can be raised to 5 minutes there; the 128 MB are one budget there, \
                  and one each for heap, buffers and WebAssembly here; time until the response head has no limit there",
    },
    Profile {
        name: "cloudflare-workers-free",
        values: &[
            (Limit::Cpu, 10),
            (Limit::Startup, 1_000),
            (Limit::Wall, 300_000),
            (Limit::Heap, 128 * MIB),
            (Limit::Buffers, 128 * MIB),
            (Limit::Wasm, 128 * MIB),
            (Limit::Subrequests, 50),
            (Limit::Connections, 6),
            (Limit::RequestBody, 100 * MIB),
            (Limit::Headers, 128 * KIB),
            (Limit::WaitUntil, 30_000),
            (Limit::Log, 256 * KIB),
        ],
        region: false,
        source: CLOUDFLARE,
        differs: "the 128 MB are one budget there, and one each for heap, buffers and WebAssembly here; time until the \
                  response head has no limit there",
    },
    Profile {
        name: "vercel-edge",
        values: &[
            (Limit::Cpu, 30_000),
            (Limit::Wall, 30_000),
            (Limit::Heap, 128 * MIB),
            (Limit::Buffers, 128 * MIB),
            (Limit::Wasm, 128 * MIB),
            (Limit::Subrequests, 950),
            (Limit::RequestBody, 4_608 * KIB),
        ],
        region: false,
        source: "https://vercel.com/docs/functions/limitations",
        differs: "the response has to begin within 25 s there (30 s before), and processor time has no limit of its own; \
                  a stream may go on for 300 s there, and as long as the client reads here",
    },
    Profile {
        name: "deno-deploy",
        values: &[
            (Limit::Cpu, 1_000),
            (Limit::Wall, 50_000),
            (Limit::Heap, 512 * MIB),
            (Limit::Buffers, 512 * MIB),
            (Limit::Wasm, 512 * MIB),
            (Limit::Subrequests, 10_000),
            (Limit::Connections, 64),
        ],
        region: false,
        source: "https://docs.deno.com/deploy/pricing_and_limits",
        differs: "processor time is 50 or 200 ms on the average of many requests there, with up to 1 s at a time: a limit per \
                  request can only be that second; 50 s until the response head is this table's own",
    },
    Profile {
        name: "cloudfront-functions",
        values: &[
            (Limit::Cpu, 1),
            (Limit::Heap, 2 * MIB),
            (Limit::Buffers, 2 * MIB),
            (Limit::Subrequests, 0),
            (Limit::Log, 10 * KIB),
        ],
        region: false,
        source: CLOUDFRONT,
        differs: "kept are 1 ms of processor time (ended at the watchdog's next look, after 1 to 3 ms), no fetch(), 2 MB of \
                  buffers and 10 KB of log; not kept are 2 MB of heap, since an isolate of V8 needs 8 MiB, 10 KB of code, \
                  and that bodies and timers are out of reach",
    },
    Profile {
        name: "lambda-edge-viewer",
        values: &[
            (Limit::Cpu, 30_000),
            (Limit::Wall, 30_000),
            (Limit::Heap, 128 * MIB),
            (Limit::Buffers, 128 * MIB),
            (Limit::Wasm, 128 * MIB),
            (Limit::Subrequests, 10_000),
            (Limit::Connections, 64),
        ],
        region: true,
        source: CLOUDFRONT,
        differs: "5 s in all there; the response may be 40 KB there; 128 MB hold Node.js, too, there",
    },
    Profile {
        name: "lambda-edge-origin",
        values: &[
            (Limit::Cpu, 60_000),
            (Limit::Wall, 60_000),
            (Limit::Heap, 10_240 * MIB),
            (Limit::Buffers, 10_240 * MIB),
            (Limit::Wasm, 10_240 * MIB),
            (Limit::Subrequests, 10_000),
            (Limit::Connections, 64),
        ],
        region: true,
        source: CLOUDFRONT,
        differs: "30 s in all there; the response may be 1 MB there; memory is chosen from 128 to 10,240 MB there",
    },
];

impl Profile {
    /// The profile of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// What the platform gives: its value, or the default where it names none.
    pub fn asked(&self, limit: Limit) -> u64 {
        self.values.iter().find(|(named, _)| *named == limit).map_or(limit.row().default, |(_, value)| *value)
    }

    /// What a PoP gives a function of this profile.
    pub fn given(&self, limit: Limit) -> u64 {
        let row = limit.row();
        self.asked(limit).clamp(row.min, row.max)
    }

    /// The rows of which a PoP gives less than the platform, or cannot give so little.
    pub fn beyond(&self) -> impl Iterator<Item = &'static Row> {
        let profile = *self;
        TABLE.iter().filter(move |row| profile.asked(row.limit) != profile.given(row.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_its_source_and_only_those_for_regions_ask_for_more_than_a_pop_gives() {
        for profile in &PROFILES {
            assert!(profile.source.starts_with("https://"), "{}", profile.name);
            let same = PROFILES.iter().filter(|other| other.name == profile.name).count();
            assert_eq!(same, 1, "{} is there twice", profile.name);
            let more = profile.beyond().any(|row| profile.asked(row.limit) > row.max);
            assert!(!more || profile.region, "{}", profile.name);
            for (i, (limit, _)) in profile.values.iter().enumerate() {
                assert!(profile.values[..i].iter().all(|(named, _)| named != limit), "{} {limit:?}", profile.name);
            }
        }
        assert!(Profile::named("nginx").is_none());
    }

    #[test]
    fn a_profile_gives_what_a_pop_can() {
        let origin = Profile::named("lambda-edge-origin").unwrap();
        assert_eq!((origin.asked(Limit::Heap), origin.given(Limit::Heap)), (10_240 * MIB, 512 * MIB));
        let cloudfront = Profile::named("cloudfront-functions").unwrap();
        assert_eq!((cloudfront.asked(Limit::Heap), cloudfront.given(Limit::Heap)), (2 * MIB, 8 * MIB));
        assert_eq!(cloudfront.given(Limit::Wall), Limit::Wall.row().default);
    }
}
