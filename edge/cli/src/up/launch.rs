//! A fleet from its first process to its last.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use ipnet::IpNet;
use middleware::geo::{City, Database};
use origin::bundle::{Digest, FunctionName};
use origin::client::Control;
use origin::deployment::Manifest;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::banner;
use super::child::{self, Child, Recipe};
use super::decisions::Log;
use super::lock::StateLock;
use super::plan::{Plan, PopPlan, RegionPlan};
use super::ports::{self, Reserved, Wanted};
use super::scale::{Scaler, Scaling, Spare};
use super::supervise::{Backoff, Event, Member, Probe, until};
use crate::access;
use crate::alarm::Alarm;
use crate::bundling::Built;
use crate::commands::protection::ProtectionArgs;
use crate::deploy::{self, State};
use crate::fleet::{self, Fleet, OriginNode, Place, PopNode, RegionVia};
use crate::front::{self, Backend, Front, Spot};
use crate::output::{self, Failure, Progress, note};
use crate::wan::Link;

/// Whom the front door and the PoPs believe about a client's address: this machine.
const TRUST: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// File in the state folder with the versions that `up` brought.
const BROUGHT: &str = "brought.json";

/// A function and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its folder.
    pub folder: PathBuf,
    /// What was made of it.
    pub built: Built,
}

/// Everything `up` needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Addresses and places.
    pub plan: Plan,
    /// Object store of the origin when it is not a folder of the state.
    pub store: Option<String>,
    /// Worker threads of each PoP.
    pub workers: Option<usize>,
    /// Memory of each PoP for cached answers, in bytes.
    pub cache: u64,
    /// Disk of each PoP for cached answers, in bytes; 0 for none.
    pub cache_disk: u64,
    /// Memory of each PoP for isolates, in bytes.
    pub isolates: u64,
    /// What stands between functions, at least.
    pub isolation: pop::Isolation,
    /// How many processes PoPs have; one each without.
    pub scaling: Option<Scaling>,
    /// Arguments of each PoP for metering.
    pub meter: Vec<OsString>,
    /// Names of the PoPs that the others ask instead of the origin.
    pub shields: Vec<String>,
    /// How the PoPs spare origins.
    pub protection: ProtectionArgs,
    /// Networks that functions may fetch from although they are not public.
    pub allow_fetch: Vec<IpNet>,
    /// Geolocation database; the built-in one without.
    pub geo: Option<PathBuf>,
    /// How to call this program from here.
    pub call: banner::Call,
    /// Whether the fleet is printed as JSON.
    pub json: bool,
}

/// Everything that runs.
struct Running {
    fleet: Arc<Mutex<Fleet>>,
    origin: (Member, Child),
    pops: Vec<(Member, Child)>,
    scalers: Vec<Scaler>,
    front: Arc<Front>,
    door: TcpListener,
    /// Closed when this is dropped, after the processes that use them.
    links: Vec<Link>,
}

/// Starts the fleet, deploys `functions`, and keeps it running until `shutdown`; what `hurry` makes then ends the wait for
/// requests under way.
///
/// # Errors
/// Why it could not start; nothing is left running then. Or that requests were cut off at the end.
pub(crate) async fn run(
    mut settings: Settings,
    lock: StateLock,
    functions: Vec<Source>,
    shutdown: impl Future<Output = ()>,
    hurry: impl AsyncFnOnce(),
) -> Result<(), Failure> {
    let mut shutdown = std::pin::pin!(shutdown);
    let running = tokio::select! {
        running = start(&mut settings, &lock, &functions) => running?,
        // Dropping what has been started kills it. Nothing acknowledged is lost by that.
        () = &mut shutdown => return Ok(()),
    };
    keep(running, shutdown, hurry).await
}

async fn start(settings: &mut Settings, lock: &StateLock, functions: &[Source]) -> Result<Running, Failure> {
    let progress = Progress::start("taking the ports");
    let database = settings.geo.as_deref().map_or_else(Database::builtin, Database::open)?;
    let mut reserved = settings.plan.reserve()?.into_iter();
    let (door, origin, admin) = (reserved.next(), reserved.next(), reserved.next());
    let pop_ports: Vec<Reserved> = reserved.collect();
    let token_file = lock.folder.join("admin.token");
    let token = access::keep_token(&token_file, rand::random)?;
    let alarm = Alarm::start()?;
    let links = Links::open(&settings.plan, &alarm).await?;
    let program = std::env::current_exe()?;
    let mut fleet = describe(settings, lock, token_file, &links);
    let control = Control::new(format!("http://{}", fleet.admin).parse()?, &token);
    let spares = spares(settings, &fleet)?;
    let all = Fleet { pops: [fleet.pops.clone(), spares].concat(), ..fleet.clone() };
    let mut members = members(settings, &all, &program, &control);
    let spares = members.drain(1 + fleet.pops.len()..=all.pops.len()).zip(&all.pops[fleet.pops.len()..]);
    let spares: Vec<(Member, PopNode)> = spares.map(|(member, node)| (member, node.clone())).collect();
    record_commands(&mut fleet, &members);

    progress.say("starting the origin");
    drop((origin, admin));
    let mut members = members.into_iter();
    let origin = members.next().ok_or_else(|| Failure::Failed("there is no origin to start".to_owned()))?;
    let child = origin.start().await?;
    fleet.origin.pid = child.pid();
    let origin = (origin, child);

    // Before the PoPs start, so that each finds everything at once.
    progress.say("deploying the functions");
    let manifest = bring(&control, functions, &lock.folder.join(BROUGHT), &progress).await?;

    progress.say("starting the PoPs");
    drop(pop_ports);
    let pops = try_join_all(members.map(async |member| member.start().await.map(|child| (member, child)))).await?;
    for (node, (_, child)) in fleet.pops.iter_mut().chain(&mut fleet.regions).zip(&pops) {
        node.pid = child.pid();
    }
    progress.say("waiting for the PoPs to take the functions up");
    await_pops(&control, &fleet, manifest.generation, &progress).await?;
    let live: Vec<banner::Live> = manifest.functions.into_iter().map(|(name, live)| (name, live.routes)).collect();
    let front = Arc::new(Front::new(front_config(&settings.plan, &all, database)?, alarm));
    let door = door.ok_or_else(|| Failure::Failed("there is no front door".to_owned()))?.listener;
    door.set_nonblocking(true)?;
    let door = TcpListener::from_std(door)?;
    fleet.write()?;
    drop(progress);
    if settings.json {
        output::json(&fleet)?;
    } else {
        let lines = banner::try_lines(&fleet, &live, &settings.call);
        let table = banner::addresses(&fleet, &settings.call.here);
        output::print(format_args!("{table}\nTry:\n{lines}\nCtrl-C ends all of it.\n"))?;
    }
    let fleet = Arc::new(Mutex::new(fleet));
    let scalers = scalers(settings, spares, &front, &fleet, &token, lock);
    Ok(Running { fleet, origin, pops, scalers, front, door, links: links.all })
}

/// Watches over everything until `shutdown`, then ends it in the order in which requests come: the front door, the PoPs,
/// the origin. Whoever hurries it does not wait for requests under way: the processes are killed.
///
/// # Errors
/// That it was hurried.
async fn keep(running: Running, shutdown: impl Future<Output = ()>, hurry: impl AsyncFnOnce()) -> Result<(), Failure> {
    let Running { fleet, origin, pops, scalers, front, door, links } = running;
    let (stop_door, mut door_stopped) = watch::channel(false);
    let (stop_pops, pops_stopped) = watch::channel(false);
    let (stop_origin, origin_stopped) = watch::channel(false);
    let serving = tokio::spawn(front.serve(door, async move { until(&mut door_stopped).await }));
    let watch_over = |(member, child): (Member, Child), stopped| {
        let fleet = Arc::clone(&fleet);
        member.supervise(child, Backoff::default(), stopped, move |member, event| tell(&fleet, member, event))
    };
    let mut watching: JoinSet<()> = pops.into_iter().map(|pop| watch_over(pop, pops_stopped.clone())).collect();
    for scaler in scalers {
        let fleet = Arc::clone(&fleet);
        watching.spawn(scaler.run(pops_stopped.clone(), move |member, event| tell(&fleet, member, event)));
    }
    let mut watching_origin = JoinSet::new();
    watching_origin.spawn(watch_over(origin, origin_stopped));
    shutdown.await;
    note("ending: requests under way are finished first; once more ends at once");
    let drained = async {
        stop_door.send_replace(true);
        let _ = serving.await;
        stop_pops.send_replace(true);
        while watching.join_next().await.is_some() {}
        stop_origin.send_replace(true);
        while watching_origin.join_next().await.is_some() {}
    };
    let outcome = tokio::select! {
        () = drained => Ok(()),
        () = hurry() => Err(Failure::Failed("ended at once: requests under way were cut off".to_owned())),
    };
    // A process that is still watched over is killed with its task.
    watching.shutdown().await;
    watching_origin.shutdown().await;
    drop(links);
    fleet.lock().unwrap_or_else(PoisonError::into_inner).remove();
    outcome
}

/// Tells the person at the terminal what happened to a process, and `fleet.json` its new process id.
fn tell(fleet: &Mutex<Fleet>, member: &Member, event: Event) {
    let name = &member.recipe.name;
    match event {
        Event::Stopped(how) => {
            note(format_args!("{name} has ended ({how}) and stays down. To start it again:"));
            note(format_args!("  {}", child::shell(&member.recipe.command())));
            set_pid(fleet, member, None);
        }
        Event::Crashed(how, pause) => {
            note(format_args!("{name} crashed ({how}); it is started again in {:.1} s", pause.as_secs_f64()));
            note(format_args!("  its log: {}", member.recipe.log.display()));
            set_pid(fleet, member, None);
        }
        Event::Started(pid) => {
            note(format_args!("{name} runs again"));
            set_pid(fleet, member, pid);
        }
        Event::Failed(error, pause) => {
            note(format_args!("{error}\n{name} is tried again in {:.1} s", pause.as_secs_f64()));
        }
        Event::Elsewhere => {
            note(format_args!("{name} is not started again: something listens on {} by now", member.address))
        }
        Event::Killed => note(format_args!("{name} did not finish in time and was killed")),
    }
}

fn set_pid(fleet: &Mutex<Fleet>, member: &Member, pid: Option<u32>) {
    let mut fleet = fleet.lock().unwrap_or_else(PoisonError::into_inner);
    if fleet.admin == member.address {
        fleet.origin.pid = pid;
    }
    let Fleet { pops, regions, .. } = &mut *fleet;
    for node in pops.iter_mut().chain(regions).filter(|node| node.address == member.address) {
        node.pid = pid;
    }
    if let Err(error) = fleet.write() {
        note(format_args!("cannot write {}: {error}", fleet.state.join(fleet::FILE).display()));
    }
}

/// The versions that `up` made live on this state, by function.
type Brought = BTreeMap<FunctionName, Digest>;

/// Makes the functions live that are not yet as they are here. Returns what is live then.
///
/// What `up` has brought before and somebody has rolled back or deleted since stays as they left it, until the folder
/// changes: `memory` is the file that tells a rollback from a change.
async fn bring(
    control: &Control,
    functions: &[Source],
    memory: &Path,
    progress: &Progress,
) -> Result<Manifest, Failure> {
    let before = control.manifest().await?;
    let mut brought = recall(memory)?;
    for Source { folder, built } in functions {
        let name = &built.bundle.name;
        let (_, version) = built.bundle.encode();
        let live = before.functions.get(name).map(|live| live.version);
        if live != Some(version) {
            let known = brought.get(name) == Some(&version)
                && control.versions(name).await?.iter().any(|known| known.version == version);
            if known {
                let state = live.map_or_else(|| "was deleted".to_owned(), |live| format!("is at {}", live.short()));
                let deploy = child::shell(&["deploy".to_owned(), folder.to_string_lossy().into_owned()]);
                progress.note(format_args!(
                    "{name} {state} and stays so: `skerry {deploy}` makes live what its folder holds ({})",
                    version.short()
                ));
                continue;
            }
            let released = deploy::release(control, built, None).await;
            released.map_err(|failure| failure.context(format_args!("cannot deploy {name}")))?;
        }
        brought.insert(name.clone(), version);
    }
    fleet::write_whole(memory, &serde_json::to_vec_pretty(&brought)?)
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", memory.display())))?;
    Ok(control.manifest().await?)
}

/// Reads what `bring` wrote. What cannot be understood is forgotten: then the folders win, as on a new state.
fn recall(memory: &Path) -> Result<Brought, Failure> {
    match std::fs::read(memory) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Brought::new()),
        Err(error) => Err(Failure::Failed(format!("cannot read {}: {error}", memory.display()))),
    }
}

/// Waits until the PoPs have what is live. One that has not is no reason to end the others.
async fn await_pops(control: &Control, fleet: &Fleet, generation: u64, progress: &Progress) -> Result<(), Failure> {
    if generation == 0 {
        return Ok(());
    }
    for arrival in deploy::arrivals(control, Some(fleet), None, generation, None, deploy::arrival_deadline()).await? {
        match arrival.error {
            Some(error) => progress.note(format_args!("warning: PoP {}: {error}", arrival.pop)),
            None if arrival.state != State::Live => {
                progress.note(format_args!("warning: PoP {} is {}", arrival.pop, arrival.state.as_str()));
            }
            None => {}
        }
    }
    Ok(())
}

/// The links of a fleet: for each PoP and region node one to the origin and one to the control API, and for each PoP one to
/// each region.
struct Links {
    all: Vec<Link>,
    /// Where each PoP, and after them each region node, reaches the origin and the control API.
    via: Vec<(SocketAddr, SocketAddr)>,
    /// Where each PoP reaches the regions.
    regions: Vec<Vec<RegionVia>>,
}

impl Links {
    async fn open(plan: &Plan, alarm: &Alarm) -> Result<Self, Failure> {
        let mut links = Self { all: Vec::new(), via: Vec::new(), regions: Vec::new() };
        let cities = plan.pops.iter().map(|pop| &pop.city).chain(plan.regions.iter().map(|region| &region.city));
        for city in cities {
            let round_trip = plan.between(city, &plan.origin_city);
            let origin = links.to(plan, alarm, plan.origin, round_trip).await?;
            let control = links.to(plan, alarm, plan.admin, round_trip).await?;
            links.via.push((origin, control));
        }
        for pop in &plan.pops {
            let mut regions = Vec::new();
            for region in &plan.regions {
                let round_trip = plan.between(&pop.city, &region.city);
                let via = links.to(plan, alarm, region.address, round_trip).await?;
                regions.push(RegionVia { name: region.name.clone(), rtt_ms: round_trip.as_secs_f64() * 1000.0, via });
            }
            regions.sort_by(|a, b| a.rtt_ms.total_cmp(&b.rtt_ms));
            links.regions.push(regions);
        }
        Ok(links)
    }

    /// Where a node that is so far away from `target` reaches it.
    async fn to(
        &mut self,
        plan: &Plan,
        alarm: &Alarm,
        target: SocketAddr,
        round_trip: Duration,
    ) -> Result<SocketAddr, Failure> {
        if plan.hop.is_none() {
            return Ok(target);
        }
        let link = Link::open(alarm, target, round_trip).await?;
        let address = link.address();
        self.all.push(link);
        Ok(address)
    }
}

fn describe(settings: &Settings, lock: &StateLock, token_file: PathBuf, links: &Links) -> Fleet {
    let plan = &settings.plan;
    let log = |name: &str| lock.folder.join("logs").join(format!("{name}.log"));
    let node = |name: &str, (address, admin), city: &City, via: &(SocketAddr, SocketAddr)| PopNode {
        name: name.to_owned(),
        address,
        admin,
        place: place(city),
        origin_rtt_ms: plan.between(city, &plan.origin_city).as_secs_f64() * 1000.0,
        origin_via: via.0,
        control_via: via.1,
        regions: Vec::new(),
        pid: None,
        log: log(name),
        command: Vec::new(),
    };
    let pop = |((pop, via), regions): ((&PopPlan, _), &Vec<RegionVia>)| PopNode {
        regions: regions.clone(),
        ..node(pop.city.code, (pop.address, pop.admin), &pop.city, via)
    };
    let region =
        |(region, via): (&RegionPlan, _)| node(&region.name, (region.address, region.admin), &region.city, via);
    Fleet {
        format: fleet::FORMAT,
        pid: std::process::id(),
        state: lock.folder.clone(),
        front: plan.front,
        admin: plan.admin,
        token_file,
        distance: plan.hop.is_some(),
        hop_ms: plan.hop.unwrap_or(Duration::ZERO).as_secs_f64() * 1000.0,
        origin: OriginNode {
            address: plan.origin,
            place: place(&plan.origin_city),
            pid: None,
            log: log("origin"),
            command: Vec::new(),
        },
        pops: plan.pops.iter().zip(&links.via).zip(&links.regions).map(pop).collect(),
        regions: plan.regions.iter().zip(&links.via[plan.pops.len()..]).map(region).collect(),
    }
}

fn place(city: &City) -> Place {
    Place {
        code: city.code.to_owned(),
        city: city.name.to_owned(),
        country: city.country.to_owned(),
        latitude: city.latitude,
        longitude: city.longitude,
    }
}

/// What to start: the origin first, then the PoPs in order, then the region nodes.
fn members(settings: &Settings, fleet: &Fleet, program: &Path, control: &Control) -> Vec<Member> {
    let member = |name: String, arguments: Vec<OsString>, log: &Path, address, probe| {
        let recipe = Recipe { name, program: program.to_owned(), arguments, log: log.to_owned() };
        Member { recipe, address, probe }
    };
    let text = |value: &dyn ToString| OsString::from(value.to_string());
    let token = || ["--token-file".into(), fleet.token_file.clone().into_os_string()];
    let mut arguments: Vec<OsString> = vec!["origin".into()];
    arguments.extend(["--listen".into(), text(&fleet.origin.address), "--admin".into(), text(&fleet.admin)]);
    arguments.extend(token());
    match &settings.store {
        Some(store) => arguments.extend(["--store".into(), store.into()]),
        None => arguments.extend(["--store".into(), fleet.state.join("origin").into_os_string()]),
    }
    let origin = member(
        "the origin".to_owned(),
        arguments,
        &fleet.origin.log,
        fleet.admin,
        Probe::Manifest(Box::new(control.clone())),
    );
    // What PoPs and region nodes are told alike.
    let node = |verb: &str, node: &PopNode| {
        let mut arguments: Vec<OsString> = vec![verb.into(), "--name".into(), text(&node.name), "--city".into()];
        arguments.extend([text(&node.place.code), "--listen".into(), text(&node.address)]);
        arguments.extend(["--admin".into(), text(&node.admin)]);
        arguments.extend(["--origin".into(), text(&format_args!("http://{}", node.origin_via))]);
        arguments.extend(["--control".into(), text(&format_args!("http://{}", node.control_via))]);
        arguments.extend(token());
        arguments.extend(["--data".into(), fleet.state.join("pops").join(&node.name).into_os_string()]);
        arguments.extend(["--isolation".into(), text(&settings.isolation)]);
        arguments.extend(settings.meter.iter().cloned());
        arguments.extend(settings.protection.arguments());
        if !settings.allow_fetch.is_empty() {
            let networks: Vec<String> = settings.allow_fetch.iter().map(ToString::to_string).collect();
            arguments.extend(["--allow-fetch".into(), text(&networks.join(","))]);
        }
        if let Some(geo) = &settings.geo {
            arguments.extend(["--geo".into(), geo.clone().into_os_string()]);
        }
        if let Some(workers) = settings.workers {
            arguments.extend(["--workers".into(), text(&workers)]);
        }
        arguments
    };
    let pops = fleet.pops.iter().map(|pop| {
        let mut arguments = node("pop", pop);
        arguments.extend(["--trust".into(), text(&TRUST.join(",")), "--cache".into(), text(&settings.cache)]);
        arguments.extend(["--cache-disk".into(), text(&settings.cache_disk)]);
        arguments.extend(["--isolates".into(), text(&settings.isolates)]);
        for shield in fleet.pops.iter().filter(|pop| settings.shields.contains(&pop.name)) {
            arguments.extend(["--shield".into(), text(&format_args!("{}=http://{}", shield.name, shield.address))]);
        }
        for region in &pop.regions {
            arguments.extend(["--region".into(), text(&format_args!("{}=http://{}", region.name, region.via))]);
        }
        member(format!("PoP {}", pop.name), arguments, &pop.log, pop.address, Probe::Health)
    });
    let regions = fleet.regions.iter().map(|region| {
        let name = format!("region {}", region.name);
        member(name, node("region", region), &region.log, region.address, Probe::Health)
    });
    std::iter::once(origin).chain(pops).chain(regions).collect()
}

fn record_commands(fleet: &mut Fleet, members: &[Member]) {
    let commands: Vec<Vec<String>> = members.iter().map(|member| member.recipe.command()).collect();
    let own = std::iter::once(&mut fleet.origin.command)
        .chain(fleet.pops.iter_mut().chain(&mut fleet.regions).map(|node| &mut node.command));
    own.zip(commands).for_each(|(own, command)| *own = command);
}

/// Processes that may run beside the first ones of their PoPs.
fn spares(settings: &Settings, fleet: &Fleet) -> Result<Vec<PopNode>, Failure> {
    let mut spares = Vec::new();
    for pop in &fleet.pops {
        for number in 0..settings.scaling.as_ref().map_or(0, |scaling| scaling.spare(&pop.name)) {
            let name = format!("{}-{}", pop.name, number + 2);
            let free = || Wanted { address: (Ipv4Addr::LOCALHOST, 0).into(), what: name.clone(), flag: "--scale" };
            let reserved = ports::reserve(&[free(), free()])?;
            let log = pop.log.with_file_name(format!("{name}.log"));
            let (address, admin) = (reserved[0].address, reserved[1].address);
            spares.push(PopNode { name, address, admin, log, ..pop.clone() });
        }
    }
    Ok(spares)
}

fn scalers(
    settings: &Settings,
    spares: Vec<(Member, PopNode)>,
    front: &Arc<Front>,
    fleet: &Arc<Mutex<Fleet>>,
    token: &str,
    lock: &StateLock,
) -> Vec<Scaler> {
    let Some(scaling) = &settings.scaling else { return Vec::new() };
    let log = Arc::new(Log::new(&lock.folder));
    let pops = fleet.lock().unwrap_or_else(PoisonError::into_inner).pops.clone();
    let mut rest = spares.into_iter().enumerate().peekable();
    let mut scalers = Vec::new();
    for pop in &pops {
        let Some(own) = scaling.pops.get(&pop.name) else { continue };
        let mut spares = Vec::new();
        while let Some((number, (member, mut node))) = rest.next_if(|(_, (_, node))| node.place == pop.place) {
            node.command = member.recipe.command();
            spares.push(Spare { node, member, place: spares.len() + 1, backend: pops.len() + number });
        }
        scalers.push(Scaler {
            name: pop.name.clone(),
            admin: pop.admin,
            workers: settings.workers.unwrap_or(1),
            scaling: own.clone(),
            every: scaling.every(),
            spares,
            front: Arc::clone(front),
            fleet: Arc::clone(fleet),
            token: token.to_owned(),
            log: Arc::clone(&log),
        });
    }
    scalers
}

fn front_config(plan: &Plan, all: &Fleet, database: Database) -> Result<front::Config, Failure> {
    let locate = move |address| {
        let location = database.lookup(address).ok()?;
        let coordinates = location.point()?;
        Some(Spot { coordinates, label: location.country.unwrap_or_else(|| "unknown".to_owned()) })
    };
    let backend = |(number, pop): (usize, &PopNode)| Backend {
        name: pop.name.clone(),
        address: pop.address,
        coordinates: pop.place.coordinates(),
        runs: number < plan.pops.len(),
    };
    Ok(front::Config {
        backends: all.pops.iter().enumerate().map(backend).collect(),
        locate: Box::new(locate),
        trust: TRUST.iter().map(|net| net.parse::<IpNet>()).collect::<Result<_, _>>()?,
        hop: plan.hop,
    })
}
