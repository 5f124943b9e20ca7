//! Processes and their children, as `/proc` tells of them.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// What a process and all its children have used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time, in user and system mode. It is counted in ticks, of 10 ms nearly everywhere.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes. Pages that several of them share are counted in each.
    pub(crate) resident: u64,
}

/// One line of `/proc/*/stat`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pid: u32,
    parent: u32,
    /// Since when it runs: together with its number this names a process for ever.
    started: u64,
    ticks: u64,
    pages: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// See proc_pid_stat(5). The name of the program, in parentheses, may hold anything.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<u64> = rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        Some(Self {
            pid,
            parent: u32::try_from(*fields.get(1)?).ok()?,
            started: *fields.get(19)?,
            ticks: fields.get(11)? + fields.get(12)?,
            pages: *fields.get(21)?,
        })
    }

    /// A process and all that descend from it.
    pub(crate) fn tree(root: u32) -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let all: Vec<Self> =
            entries.filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?)).collect();
        let mut tree: Vec<Self> = all.iter().filter(|process| process.pid == root).copied().collect();
        let mut next = 0;
        while let Some(parent) = tree.get(next).map(|process| process.pid) {
            tree.extend(all.iter().filter(|process| process.parent == parent));
            next += 1;
        }
        tree
    }

    /// Ends it at once, if it still is the process it was.
    pub(crate) fn kill(&self) {
        if Self::read(self.pid).is_some_and(|now| now.started == self.started) {
            signal(self.pid, Signal::KILL);
        }
    }
}

/// Whether a process is there and has not ended.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Sends a signal to a process; one that is gone needs none.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// What a process and its children have used so far.
pub(crate) fn usage(root: u32) -> Usage {
    let tree = Process::tree(root);
    let pages: u64 = tree.iter().map(|process| process.pages).sum();
    Usage {
        cpu: time(tree.iter().map(|process| process.ticks).sum()),
        resident: pages * rustix::param::page_size() as u64,
    }
}

/// What a process and its children take of the memory, in bytes: a page that several processes share is divided by their
/// number (PSS).
pub(crate) fn proportional(root: u32) -> u64 {
    let kib = |process: &Process| {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    Process::tree(root).iter().filter_map(kib).sum::<u64>() << 10
}

/// Forgets the [`peak`] of a process and its children so far.
///
/// # Errors
/// When the system does not let it.
pub(crate) fn reset_peak(root: u32) -> Result<(), Failure> {
    for process in Process::tree(root) {
        let path = format!("/proc/{}/clear_refs", process.pid);
        std::fs::write(&path, "5").map_err(|error| format!("{path}: the peak cannot be reset: {error}"))?;
    }
    Ok(())
}

/// The most resident memory of a process since the last [`reset_peak`], in bytes, and of its children: the sum of what each
/// had at its own peak.
pub(crate) fn peak(root: u32) -> u64 {
    let kib = |process: &Process| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Process::tree(root).iter().filter_map(kib).sum::<u64>() << 10
}

/// Processor time that everything on this machine has used so far, and what its host took away.
pub(crate) fn all_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let total = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = total.split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // In order: user, nice, system, idle, iowait, irq, softirq, steal. Guests are in user already.
    time([0, 1, 2, 5, 6, 7].into_iter().filter_map(|field| ticks.get(field)).sum())
}

fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 20 5 0 0 20 0 1 0 99 1000 42 1";
        let process = Process::parse(7, stat).unwrap();
        assert_eq!((process.parent, process.ticks, process.started, process.pages), (3, 25, 99, 42));
    }

    #[test]
    fn this_process_has_memory_and_a_peak() {
        let id = std::process::id();
        assert!(usage(id).resident > 0);
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let with = peak(id);
        drop(block);
        reset_peak(id).unwrap();
        let without = peak(id);
        assert!(without > 0 && with > without + (32 << 20), "peak {with}, then {without}");
    }
}
