//! The walls around a cell: what its process gives up before it runs anything of a tenant's.
//!
//! They stand before V8 does and before any second thread exists, so that every thread has them from its first moment.
//! From inside, nothing takes them down: none of them can be lifted by the process that has put it up.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::str::FromStr;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetStatus,
    Scope,
};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::{Deserialize, Serialize};

/// Descriptors that a cell may have: its sockets, and those of its event loop.
const DESCRIPTORS: u64 = 64;

/// Which walls stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Walls {
    /// The kernel refuses every system call that a function's thread has no need of.
    pub(super) seccomp: bool,
    /// The kernel's own answer to who may open files: nobody.
    pub(super) landlock: Landlock,
}

/// How much of Landlock the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Landlock {
    /// All that was asked of it.
    Whole,
    /// What an older kernel knows.
    Partly,
    /// It has none, or it was left out.
    Absent,
}

impl Landlock {
    /// Stable name: log field.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partly => "partly",
            Self::Absent => "absent",
        }
    }
}

/// Which walls to put up: all, or for a test of one of them, fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    seccomp: bool,
    landlock: bool,
}

impl Chosen {
    /// What every cell has.
    pub const ALL: Self = Self { seccomp: true, landlock: true };
}

impl FromStr for Chosen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::ALL),
            "seccomp" => Ok(Self { seccomp: true, landlock: false }),
            "landlock" => Ok(Self { seccomp: false, landlock: true }),
            "none" => Ok(Self { seccomp: false, landlock: false }),
            _ => Err("the walls are all, seccomp, landlock or none".to_owned()),
        }
    }
}

/// Puts the walls up around this process, which must have one thread.
///
/// # Errors
/// What the system refuses of it, Landlock apart: then nothing may be run here.
pub(super) fn put_up(chosen: Chosen) -> io::Result<Walls> {
    for (resource, most) in [(Resource::Core, 0), (Resource::Fsize, 0), (Resource::Nofile, DESCRIPTORS)] {
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    rustix::thread::set_no_new_privs(true)?;
    let landlock = if chosen.landlock { lock_files() } else { Landlock::Absent };
    if chosen.seccomp {
        for filter in filters().map_err(io::Error::other)? {
            seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
        }
    }
    Ok(Walls { seccomp: chosen.seccomp, landlock })
}

/// Everything that Landlock can forbid, with no exception. Seccomp forbids the same calls; this is for the day when one of
/// its rules is too wide.
fn lock_files() -> Landlock {
    const NEWEST: ABI = ABI::V6;
    let locked = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.restrict_self());
    match locked.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => Landlock::Whole,
        Ok(RulesetStatus::PartiallyEnforced) => Landlock::Partly,
        Ok(RulesetStatus::NotEnforced) | Err(_) => Landlock::Absent,
    }
}

/// The filters in the order in which they are put up: the last one forbids to put up more. Of what several say, the
/// kernel does the hardest.
fn filters() -> Result<[BpfProgram; 3], seccompiler::BackendError> {
    use SeccompAction::{Allow, Errno, KillProcess};
    let plain = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect::<BTreeMap<_, _>>();
    let mut needed = plain(NEEDED);
    needed.extend(narrowed()?);
    let filter = |calls, otherwise, then| -> Result<BpfProgram, seccompiler::BackendError> {
        SeccompFilter::new(calls, otherwise, then, std::env::consts::ARCH.try_into()?)?.try_into()
    };
    // The C library asks for threads by this call, whose flags no filter can see, and then by the one that it can.
    needed.insert(libc::SYS_clone3, Vec::new());
    Ok([
        filter(plain(&[libc::SYS_clone3]), Allow, Errno(libc::ENOSYS as u32))?,
        filter(plain(FATAL), Allow, KillProcess)?,
        filter(needed, Errno(libc::EPERM as u32), Allow)?,
    ])
}

/// Calls that V8, the event loop and the C library make, and that reach nothing outside of this process but through the
/// sockets that it has.
const NEEDED: &[i64] = &[
    // The sockets.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_close,
    // The event loop.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // Memory. V8 makes machine code, so pages may become executable.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    // Threads.
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Clocks, sizes and chance.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Calls that are needed in one form: a thread of this process, a signal to it, and the names of both.
fn narrowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    let is = |argument, length, value| SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value);
    let thread = libc::CLONE_THREAD as u64;
    let thread = SeccompCondition::new(0, Qword, SeccompCmpOp::MaskedEq(thread), thread)?;
    let own = is(0, Dword, u64::from(std::process::id()))?;
    let prctl = |option: libc::c_int| SeccompRule::new(vec![is(0, Dword, option as u64)?]);
    let fcntl = |command: libc::c_int| SeccompRule::new(vec![is(1, Dword, command as u64)?]);
    Ok(BTreeMap::from([
        (libc::SYS_clone, vec![SeccompRule::new(vec![thread])?]),
        (libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]),
        (libc::SYS_prctl, vec![prctl(libc::PR_SET_NAME)?, prctl(libc::PR_SET_VMA)?]),
        (libc::SYS_fcntl, vec![fcntl(libc::F_GETFL)?, fcntl(libc::F_GETFD)?, fcntl(libc::F_DUPFD_CLOEXEC)?]),
    ]))
}

/// Calls that nothing here makes by chance. Whoever makes one has taken the process over, and is not to have a second try.
const FATAL: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_perf_event_open,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Something that no cell may do, tried to see that it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// To open a file that everybody may read.
    Read,
    /// To make a file where everybody may.
    Write,
    /// To listen for connections.
    Listen,
    /// To become another program.
    Exec,
    /// To start another process.
    Fork,
    /// To signal the process that started it.
    Signal,
}

impl FromStr for Attempt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "listen" => Ok(Self::Listen),
            "exec" => Ok(Self::Exec),
            "fork" => Ok(Self::Fork),
            "signal" => Ok(Self::Signal),
            _ => Err("what can be tried is read, write, listen, exec, fork or signal".to_owned()),
        }
    }
}

impl Attempt {
    /// Tries it behind the chosen walls. The kernel may end the process for it.
    ///
    /// # Errors
    /// The outer one: that there are no walls. The inner one: the refusal.
    pub fn make(self, chosen: Chosen) -> io::Result<io::Result<()>> {
        let parent = rustix::process::getppid().unwrap_or(Pid::INIT);
        put_up(chosen)?;
        Ok(self.try_it(parent))
    }

    fn try_it(self, parent: Pid) -> io::Result<()> {
        match self {
            Self::Read => File::open("/etc/passwd").map(drop),
            // A limit on the size of files forbids a longer one.
            Self::Write => {
                let path = std::env::temp_dir().join(format!("skerry-cell-{}", std::process::id()));
                File::create_new(&path).and_then(|_| fs::remove_file(&path))
            }
            Self::Listen => TcpListener::bind("127.0.0.1:0").map(drop),
            Self::Exec => Err(Command::new("/bin/true").exec()),
            Self::Fork => Command::new("/bin/true").spawn().and_then(|mut child| child.wait()).map(drop),
            Self::Signal => rustix::process::kill_process(parent, Signal::URG).map_err(Into::into),
        }
    }
}
