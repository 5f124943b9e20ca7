//! What `skerry up` runs: cities and addresses, checked before anything starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use middleware::geo::{self, City, round_trip};

use super::ports::{self, PortsError, Reserved, Wanted};

/// Most region nodes on one machine.
pub(crate) const MAX_REGIONS: usize = 4;

/// Most PoPs on one machine.
pub(crate) const MAX_POPS: usize = 32;

/// One PoP of `--pops`: `code=port`, `code=address:port`, or `code` alone for a free port.
#[derive(Clone, Debug)]
pub(crate) struct PopPlan {
    /// Its city, whose code is its name.
    pub city: City,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its health and metrics are.
    pub admin: SocketAddr,
}

impl FromStr for PopPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (code, place) = text.split_once('=').unwrap_or((text, "0"));
        Ok(Self { city: city(code)?, address: address(place)?, admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) })
    }
}

/// One region node of `--regions`: a name with its city, `name=city`; or one that tells it, a city's code or the name of a
/// region of a known cloud. It takes free ports.
#[derive(Clone, Debug)]
pub(crate) struct RegionPlan {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub city: City,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its health and metrics are.
    pub admin: SocketAddr,
}

/// Regions of AWS by the city they are named after, or the nearest that is known here.
const CLOUD: [(&str, &str); 12] = [
    ("ap-northeast-1", "nrt"),
    ("ap-northeast-2", "icn"),
    ("ap-south-1", "bom"),
    ("ap-southeast-1", "sin"),
    ("ap-southeast-2", "syd"),
    ("ca-central-1", "yul"),
    ("eu-central-1", "fra"),
    ("eu-north-1", "arn"),
    ("eu-west-1", "dub"),
    ("eu-west-2", "lhr"),
    ("sa-east-1", "gru"),
    ("us-east-1", "iad"),
];

impl FromStr for RegionPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || CLOUD.iter().find(|(name, _)| *name == text).map_or(text, |(_, code)| code);
        let (name, code) = text.split_once('=').unwrap_or_else(|| (text, known()));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            return Err(format!("{name:?} is no name of a region: use a-z, 0-9 and -, like eu-west-1"));
        }
        let city = city(code).map_err(|why| format!("where is the region {name}? {why}. Write it as {name}=CITY"))?;
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self { name: name.to_owned(), city, address: free, admin: free })
    }
}

/// Reads a city's code.
///
/// # Errors
/// Names the codes that are known.
pub(crate) fn city(code: &str) -> Result<City, String> {
    geo::city(&code.to_ascii_lowercase()).ok_or_else(|| {
        let mut known: Vec<&str> = geo::cities().map(|city| city.code).collect();
        known.sort_unstable();
        format!("there is no city {code:?}; known are {}", known.join(" "))
    })
}

/// Reads an address with its port, or a port alone on 127.0.0.1, which is also what `localhost` means.
///
/// # Errors
/// Says which forms are accepted.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    let local = || port.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    text.parse().ok().or_else(local).ok_or_else(|| format!("{text:?} is not an address: write a port or address:port"))
}

/// The addresses and places of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The front door.
    pub front: SocketAddr,
    /// The origin's objects.
    pub origin: SocketAddr,
    /// The control and admin API.
    pub admin: SocketAddr,
    /// Where the origin stands.
    pub origin_city: City,
    /// The PoPs, in order.
    pub pops: Vec<PopPlan>,
    /// The region nodes.
    pub regions: Vec<RegionPlan>,
    /// Hop cost of simulated round trips; `None` simulates none.
    pub hop: Option<Duration>,
}

impl Plan {
    /// Checks what no single flag can: the number of PoPs and that each city has one at most.
    ///
    /// # Errors
    /// Says which flag to change.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.pops.is_empty() || self.pops.len() > MAX_POPS {
            return Err(format!("--pops names {} PoPs; 1 to {MAX_POPS} are possible", self.pops.len()));
        }
        for (i, pop) in self.pops.iter().enumerate() {
            if self.pops[..i].iter().any(|other| other.city.code == pop.city.code) {
                return Err(format!("--pops names {} twice", pop.city.code));
            }
        }
        if self.regions.len() > MAX_REGIONS {
            return Err(format!("--regions names {}; at most {MAX_REGIONS} are possible", self.regions.len()));
        }
        for (i, region) in self.regions.iter().enumerate() {
            let names = self.regions[..i].iter().map(|other| &*other.name);
            if names.chain(self.pops.iter().map(|pop| pop.city.code)).any(|name| name == region.name) {
                let name = &region.name;
                return Err(format!("--regions names {name}, which is the name of another node: write NAME={name}"));
            }
        }
        Ok(())
    }

    /// Takes all addresses at once, replacing port 0 by the port chosen. In order: front, origin, admin, PoPs,
    /// region nodes, and where PoPs and region nodes have their metrics.
    ///
    /// # Errors
    /// [`PortsError`] with every address that cannot be had.
    pub(crate) fn reserve(&mut self) -> Result<Vec<Reserved>, PortsError> {
        let wanted = |address, what: &str, flag| Wanted { address, what: what.to_owned(), flag };
        let fixed = [
            wanted(self.front, "the front door", "--front"),
            wanted(self.origin, "the origin", "--origin"),
            wanted(self.admin, "the admin API", "--admin"),
        ];
        let pops = self.pops.iter().map(|pop| wanted(pop.address, &format!("PoP {}", pop.city.code), "--pops"));
        let admins = self.pops.iter().map(|pop| wanted(pop.admin, &format!("PoP {}", pop.city.code), "--pops"));
        let region = |region: &RegionPlan, address| wanted(address, &format!("region {}", region.name), "--regions");
        let regions = self.regions.iter().map(|it| region(it, it.address));
        let region_admins = self.regions.iter().map(|it| region(it, it.admin));
        let all = fixed.into_iter().chain(pops).chain(regions).chain(admins).chain(region_admins);
        let reserved = ports::reserve(&all.collect::<Vec<_>>())?;
        let own = [&mut self.front, &mut self.origin, &mut self.admin];
        let (pops, admins): (Vec<_>, Vec<_>) =
            self.pops.iter_mut().map(|pop| (&mut pop.address, &mut pop.admin)).unzip();
        let (regions, region_admins): (Vec<_>, Vec<_>) =
            self.regions.iter_mut().map(|region| (&mut region.address, &mut region.admin)).unzip();
        let all = own.into_iter().chain(pops).chain(regions).chain(admins).chain(region_admins);
        for (own, reserved) in all.zip(&reserved) {
            *own = reserved.address;
        }
        Ok(reserved)
    }

    /// The simulated round trip between two cities; zero without distance.
    pub(crate) fn between(&self, one: &City, other: &City) -> Duration {
        self.hop.map_or(Duration::ZERO, |hop| round_trip(one.point(), other.point(), hop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(pops: &[&str]) -> Plan {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Plan {
            front: any,
            origin: any,
            admin: any,
            origin_city: city("fra").unwrap(),
            pops: pops.iter().map(|pop| pop.parse().unwrap()).collect(),
            regions: Vec::new(),
            hop: Some(Duration::from_millis(2)),
        }
    }

    #[test]
    fn a_pop_is_a_city_with_a_port_an_address_or_neither() {
        let pop = |text: &str| text.parse::<PopPlan>().map(|pop| (pop.city.code, pop.address.to_string()));
        assert_eq!(pop("lhr=8081"), Ok(("lhr", "127.0.0.1:8081".to_owned())));
        assert_eq!(pop("lhr=localhost:8081"), Ok(("lhr", "127.0.0.1:8081".to_owned())));
        assert_eq!(pop("NRT=[::1]:9"), Ok(("nrt", "[::1]:9".to_owned())));
        assert_eq!(pop("iad"), Ok(("iad", "127.0.0.1:0".to_owned())));
        assert!(pop("xxx=1").unwrap_err().contains("known are"));
        assert!(pop("lhr=99999").unwrap_err().contains("99999"));
        assert!(pop("=").is_err() && pop("").is_err());
    }

    #[test]
    fn a_region_is_a_name_with_a_city_or_one_that_tells_it() {
        let region = |text: &str| text.parse::<RegionPlan>().map(|region| (region.name, region.city.code));
        assert_eq!(region("eu-west-1"), Ok(("eu-west-1".to_owned(), "dub")));
        assert_eq!(region("main=fra"), Ok(("main".to_owned(), "fra")));
        assert_eq!(region("fra"), Ok(("fra".to_owned(), "fra")));
        assert!(region("mars").unwrap_err().contains("where is the region mars?"));
        assert!(region("A b=fra").is_err() && region("=fra").is_err());
        let with = |names: &[&str]| {
            let regions = names.iter().map(|name| name.parse().unwrap()).collect();
            Plan { regions, ..plan(&["lhr"]) }.check()
        };
        assert!(with(&["eu-west-1", "fra"]).is_ok());
        assert!(with(&["lhr"]).unwrap_err().contains("another node"));
        assert!(with(&["fra", "fra"]).is_err());
    }

    #[test]
    fn every_region_of_a_cloud_is_in_a_known_city() {
        CLOUD.iter().for_each(|(name, _)| assert!(name.parse::<RegionPlan>().is_ok(), "{name}"));
    }

    #[test]
    fn a_city_has_one_pop_at_most() {
        assert!(plan(&["lhr", "iad"]).check().is_ok());
        assert!(plan(&["lhr", "lhr=1"]).check().unwrap_err().contains("lhr twice"));
        assert!(plan(&[]).check().is_err());
    }

    #[test]
    fn free_ports_are_written_back_into_the_plan() {
        let mut plan = plan(&["lhr", "iad"]);
        let reserved = plan.reserve().unwrap();
        let pops = plan.pops.iter();
        let pops = pops.clone().map(|pop| pop.address).chain(pops.map(|pop| pop.admin));
        let all: Vec<_> = [plan.front, plan.origin, plan.admin].into_iter().chain(pops).collect();
        assert_eq!(all.len(), reserved.len());
        assert!(all.iter().zip(&reserved).all(|(own, reserved)| own.port() != 0 && *own == reserved.address));
    }

    #[test]
    fn the_far_pop_is_further_from_the_origin() {
        let plan = plan(&["lhr", "nrt"]);
        let far = |plan: &Plan, pop: usize| plan.between(&plan.pops[pop].city, &plan.origin_city);
        assert!(far(&plan, 1) > far(&plan, 0) * 5);
        assert_eq!(far(&Plan { hop: None, ..plan.clone() }, 1), Duration::ZERO);
    }
}
