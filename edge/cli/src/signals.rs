//! When a process should end.

use std::io::Read as _;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Whether the end of standard input means the end of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// It means nothing.
    Ignored,
    /// The parent holds the other end of a pipe and writes nothing to it: its end is the parent's.
    Parent,
}

/// Resolves on SIGINT, SIGTERM or, with [`Input::Parent`], when standard input ends. Signals count from the call, not from
/// the first poll: whoever sees a port of this process may end it. Must be called and polled on a runtime.
pub(crate) fn shutdown(input: Input) -> impl Future<Output = ()> {
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = handlers else {
            // Without handlers the kernel's own still end the process at once.
            return std::future::pending().await;
        };
        let parent = async {
            match input {
                Input::Parent => end_of_input().await,
                Input::Ignored => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = parent => {}
        }
    }
}

/// Waits on a thread of its own: a read of standard input cannot be cancelled, and must not keep a runtime from ending.
async fn end_of_input() {
    let (ended, end) = oneshot::channel();
    let watch = move || {
        let mut input = std::io::stdin().lock();
        let mut bytes = [0; 256];
        while !matches!(input.read(&mut bytes), Ok(0) | Err(_)) {}
        let _ = ended.send(());
    };
    match std::thread::Builder::new().name("parent-watch".to_owned()).spawn(watch) {
        Ok(_) => drop(end.await),
        Err(_) => std::future::pending().await,
    }
}
