//! Starting and stopping a PoP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use isolate::{Platform, Trial, Watchdog};
use origin::client::Control;
use origin::token::Token;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use crate::admin;
use crate::cell;
use crate::config::{Config, StartError};
use crate::engine;
use crate::follow::Follower;
use crate::load;
use crate::meter;
use crate::purge;
use crate::state::State;
use crate::workers::Workers;

/// Connections that the kernel holds for a listener until they are accepted.
const BACKLOG: i32 = 1024;

/// The longest wait for the purge log before clients come in. Without it this PoP serves, but validates what it has stored.
const PURGES: Duration = Duration::from_secs(1);

/// The longest that the last word of the meter may take.
const METER: Duration = Duration::from_secs(3);

/// Runs a PoP until `shutdown`, polled on `runtime`, resolves, then drains it. Call it on the main thread: V8 starts here,
/// before any other thread exists. `ready` gets the address once clients can connect.
///
/// # Errors
/// [`StartError`], with nothing left running.
pub fn run(
    config: Config,
    runtime: &Runtime,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), StartError> {
    let snapshot = engine::snapshot(&config.data, config.snapshot_maker.as_deref());
    let platform = Platform::start_from(snapshot.clone());
    let state = State::new(&config)?;
    let listeners = listeners(config.listen, config.workers.max(1))
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let address = listeners[0].local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
    let admin = config.admin.as_ref().map(|admin| {
        let listener = bind(admin.address, false);
        listener.map_err(|source| StartError::Admin { address: admin.address, source })
    });
    let admin = admin.transpose()?;
    let watchdog = Watchdog::start().map_err(StartError::Thread)?;
    let control = Control::new(config.control.clone(), &config.token);

    let workers = listeners.len();
    let isolates = isolate::Config {
        ready: config.ready,
        memory: config.isolate_bytes / workers as u64,
        residents: isolate::most_residents(workers),
    };
    let cells = config.cell_program.as_ref().map(|program| cell::Maker {
        program: program.clone(),
        // A tenant has few functions, and most have one.
        isolates: isolate::Config { ready: 1, residents: isolate::most_residents(1), ..isolates },
        snapshot: snapshot.made(),
    });
    let (follower_state, follower_cells) = (Arc::clone(&state), cells.clone());
    let trial = Trial::new(platform, watchdog.clone());
    let (recalled, wait_recalled) = std::sync::mpsc::channel();
    thread("control", move |runtime| {
        runtime.block_on(async move {
            let mut follower = Follower::new(follower_state, control, trial, follower_cells);
            follower.recall();
            let _ = recalled.send(());
            follower.follow().await;
        });
    })?;
    let (purge_state, purge_control) = (Arc::clone(&state), Control::new(config.control.clone(), &config.token));
    let (purged, wait_purged) = std::sync::mpsc::channel();
    let (fence, pushed) = (config.purge_fence, config.nats.clone().map(|nats| (nats, config.token.clone())));
    // A thread of its own: nothing that a new version does at its trial holds up a purge.
    thread("purges", move |runtime| {
        runtime.block_on(purge::follow(purge_state, purge_control, fence, pushed, purged))
    })?;
    // Alive until the last worker has drained.
    let (_here, gone) = watch::channel(false);
    if let (Some(listener), Some(config)) = (admin, &config.admin) {
        let (state, token) = (Arc::clone(&state), Token::new(&config.token));
        thread("admin", move |runtime| {
            runtime.spawn(load::follow(Arc::clone(&state)));
            if let Err(error) = runtime.block_on(admin::serve(state, token, listener, gone)) {
                tracing::error!(%error, "the admin listener has ended");
            }
        })?;
    }
    let (end_meter, ending) = oneshot::channel();
    let (kept, wait_kept) = std::sync::mpsc::channel::<()>();
    let (meter_state, meter_control) = (Arc::clone(&state), Control::new(config.control.clone(), &config.token));
    thread("meter", move |runtime| {
        let Config { meter_every, prices, data, .. } = config;
        runtime.block_on(meter::follow(meter_state, meter_control, meter_every, prices, data, ending));
        drop(kept);
    })?;
    // What this PoP had before is live before the first client can ask for it.
    let _ = wait_recalled.recv();
    let _ = wait_purged.recv_timeout(PURGES);
    let mut workers = Workers::new(state, platform, watchdog, isolates, cells);
    for (index, listener) in listeners.into_iter().enumerate() {
        workers.start(index, listener)?;
    }
    ready(address);

    let ended = runtime.block_on(workers.supervise(shutdown));
    // Only now has everything been counted.
    drop(end_meter);
    let _ = wait_kept.recv_timeout(METER);
    ended
}

/// Starts a thread with a runtime of its own.
pub(crate) fn thread(name: &str, body: impl FnOnce(Runtime) + Send + 'static) -> Result<ThreadId, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(isolate::STACK_BYTES)
        .spawn(move || body(runtime))
        .map(|handle| handle.thread().id())
        .map_err(StartError::Thread)
}

/// One listener for each worker on the same port: the kernel spreads connections, and no thread hands them on.
fn listeners(address: SocketAddr, count: usize) -> std::io::Result<Vec<TcpListener>> {
    // Sharing a port works between processes, too. A first socket that does not share finds out whether it is free.
    let probe = bind(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..count).map(|_| bind(address, true)).collect()
}

fn bind(address: SocketAddr, shared: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
