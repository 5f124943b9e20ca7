//! The machine, and which of its cores does what.

use std::fmt;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Failure;

/// Two cores: one for the server, one for the load. A machine with one core has both on it, and says so.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    all: CpuSet,
    server: usize,
    load: usize,
    model: String,
    kernel: String,
}

/// Where a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Alone on the server's core: what is measured.
    Pinned,
    /// On any core: what only prepares, or may use more than one.
    Anywhere,
}

impl Machine {
    /// Finds out what this process may use.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn look() -> Result<Self, Failure> {
        let all = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let server = cores.next().ok_or("this process may use no core")?;
        let load = cores.next().unwrap_or(server);
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or(std::env::consts::ARCH, |(_, model)| model).to_owned();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        Ok(Self { all, server, load, model, kernel })
    }

    /// Keeps the calling thread on the load's core.
    ///
    /// # Errors
    /// When the system does not let it.
    pub(crate) fn stay_off_the_servers_core(&self) -> Result<(), Failure> {
        Ok(sched_setaffinity(None, &only(self.load))?)
    }

    /// Runs `start`, whose processes inherit the place from this thread. Inheriting leaves no moment, and no thread of
    /// the new process, that is somewhere else.
    ///
    /// # Errors
    /// When the system does not let it, or `start` fails.
    pub(crate) fn at<T>(&self, place: Place, start: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let cores = match place {
            Place::Pinned => only(self.server),
            Place::Anywhere => self.all,
        };
        sched_setaffinity(None, &cores)?;
        let started = start();
        self.stay_off_the_servers_core()?;
        started
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, server, load, model, kernel } = self;
        write!(f, "{} cores of {model}, Linux {kernel}; ", all.count())?;
        match server == load {
            false => write!(f, "the server on core {server}, the load generator on core {load}"),
            true => f.write_str("server and load generator share the only core"),
        }
    }
}

fn only(core: usize) -> CpuSet {
    let mut cores = CpuSet::new();
    cores.set(core);
    cores
}
