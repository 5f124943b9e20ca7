//! The process of a cell: an ordinary worker of isolates, whose functions reach the world through the PoP.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http_body_util::BodyExt as _;
use isolate::{Body, Fault, Found, Loss, Platform, Program, Snapshot, Source, Trial, Watchdog};
use rustix::process::Signal;

use super::calls::Calls;
use super::link::{Arriving, Link, Peer, Question, Side};
use super::message::{
    Boot, Failed, Head, Invoke, Note, Order, Outcome, Parcel, Query, compiled, decode, encode, fields, header_map,
};
use super::remote::Remote;
use super::walls::{self, Chosen};
use super::wire::Ended;
use crate::capabilities::Visit;

/// How often isolates are looked after, and the PoP told of them.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// Messages to the author of a function longer than this are cut, so that they fit into a frame.
const MOST_WORDS: usize = 1 << 20;

/// Runs this process as a cell, whose sockets are its standard input, output and error, until its PoP ends it or is gone.
///
/// # Errors
/// Why it cannot be one.
pub fn run() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::setsid()?;
    rustix::thread::set_name(c"skerry-cell")?;
    std::env::set_current_dir("/")?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let calls = Calls::new(UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?));
    let told = calls.hear()?;
    let Boot { isolates, snapshot } = decode(&told).map_err(io::Error::other)?;
    let snapshot = snapshot.map(|made| Snapshot::new(made.to_vec()));
    drop(told);

    // Before the walls: the first event loop of a process makes itself a pair of sockets, for signals.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let walls = walls::put_up(Chosen::ALL)?;
    let platform = Platform::start_from(snapshot.unwrap_or_else(Snapshot::built_in));
    let watchdog = Watchdog::start()?;
    let thread = std::thread::Builder::new().name("cell".to_owned()).stack_size(isolate::STACK_BYTES);
    let living = thread.spawn(move || {
        runtime.block_on(async move {
            let telling = calls.clone();
            let told = watchdog.telling(move |loss| end(&telling, &loss));
            let worker = isolate::Worker::new(platform, &told, isolates);
            let link = Link::new(Side::Cell);
            let inside = Rc::new(Inside { worker, calls, programs: RefCell::default(), platform, watchdog });
            inside.calls.say(&Query::Ready(walls))?;
            isolate::spawn_local(tidy(Rc::clone(&inside), Rc::clone(&link)));
            let ended = link.run(tokio::net::UnixStream::from_std(socket)?, &inside).await;
            if ended == Ended::Closed { Ok(()) } else { Err(io::Error::other(ended)) }
        })
    })?;
    living.join().unwrap_or_else(|_| Err(io::Error::other("the cell's thread has panicked")))
}

/// The function that runs cannot be ended: the process can.
fn end(calls: &Calls, loss: &Loss) {
    let version = loss.program.as_ref().map(|program| program.version.as_str());
    let _ = calls.say(&Query::Lost { version, cause: loss.cause.clone() });
    std::process::abort();
}

/// The functions of one tenant, in this process.
pub(super) struct Inside {
    worker: isolate::Worker,
    pub(super) calls: Calls,
    /// By version: where their programs come from.
    programs: RefCell<HashMap<String, Rc<Remotely>>>,
    platform: Platform,
    watchdog: Watchdog,
}

/// A function whose program the PoP has.
struct Remotely {
    version: String,
    calls: Calls,
}

impl Source for Remotely {
    fn version(&self) -> &str {
        &self.version
    }

    fn load(&self) -> Result<(Arc<Program>, Found), Fault> {
        let gone = |why: String| Fault::Gone(why);
        let sent = self.calls.ask(&Query::Load { version: &self.version }).map_err(|error| gone(error.to_string()))?;
        let parcel: Result<Parcel<'_>, Fault> = decode(&sent).map_err(|error| gone(error.to_string()))?;
        let (program, found) = parcel?.open().map_err(Fault::Boot)?;
        Ok((Arc::new(program), found))
    }
}

impl Peer for Rc<Inside> {
    fn asked(&self, link: &Rc<Link>, Question { exchange, message, body }: Question) -> Result<(), Ended> {
        let (inside, answering) = (Rc::clone(self), Rc::clone(link));
        link.serve(exchange, async move {
            match decode(&message) {
                Ok(Order::Invoke(invoke)) => inside.invoke(&answering, exchange, invoke, body).await,
                Ok(Order::Warm { version }) => {
                    let warmed = inside.worker.warm(&*inside.source(version)).await;
                    answering.answer(exchange, &encode(&warmed), None::<Body>);
                }
                Ok(Order::Compile { version, paths }) => {
                    let cache = inside.compile(version, &paths).await;
                    let answer = cache.as_ref().map(|cache| cache.as_ref().map(compiled));
                    answering.answer(exchange, &encode(&answer), None::<Body>);
                }
                // The PoP is of the same build: it says nothing else.
                Err(_) => {}
            }
        });
        Ok(())
    }

    fn told(&self, note: &[u8]) -> Result<(), Ended> {
        if let Note::Retire(versions) = decode(note)? {
            self.worker.retain(|version| !versions.contains(&version));
            self.programs.borrow_mut().retain(|version, _| !versions.contains(&version.as_str()));
        }
        Ok(())
    }
}

impl Inside {
    fn source(&self, version: &str) -> Rc<Remotely> {
        let mut programs = self.programs.borrow_mut();
        if let Some(known) = programs.get(version) {
            return Rc::clone(known);
        }
        let new = Rc::new(Remotely { version: version.to_owned(), calls: self.calls.clone() });
        programs.insert(version.to_owned(), Rc::clone(&new));
        new
    }

    async fn invoke(self: &Rc<Self>, link: &Rc<Link>, exchange: u64, invoke: Invoke<'_>, body: Option<Arriving>) {
        let Some(request) = request(&invoke, body) else { return };
        let source = self.source(invoke.version);
        let capabilities = Rc::new(Remote::new(Rc::clone(self), Rc::clone(link), exchange, visit(&invoke)));
        let invoked = self.worker.invoke(&*source, request, capabilities).await;
        match invoked.result {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let result = Ok(Head { status: head.status.as_u16(), fields: fields(&head.headers) });
                link.answer(exchange, &encode(&Outcome { timing: invoked.timing, result }), Some(body));
            }
            Err(failure) => {
                let (fault, taken) = (short(failure.fault), failure.head.is_some());
                let result = Err(Failed { fault, pass_through: failure.pass_through, taken });
                link.answer(exchange, &encode(&Outcome { timing: invoked.timing, result }), None::<Body>);
            }
        }
    }

    async fn compile(&self, version: &str, paths: &[&str]) -> Result<Option<isolate::CodeCache>, Fault> {
        let (program, _) = self.source(version).load()?;
        Trial::new(self.platform, self.watchdog.clone()).compile(&program, paths).await
    }
}

/// Cuts what a function says of itself to what a frame can hold.
fn short(fault: Fault) -> Fault {
    let cut = |mut text: String| {
        text.truncate(text.floor_char_boundary(MOST_WORDS));
        text
    };
    match fault {
        Fault::Boot(text) => Fault::Boot(cut(text)),
        Fault::Gone(text) => Fault::Gone(cut(text)),
        Fault::Threw(text) => Fault::Threw(cut(text)),
        Fault::InvalidResponse(text) => Fault::InvalidResponse(cut(text)),
        Fault::NeverAnswered | Fault::Limit { .. } => fault,
    }
}

/// The request that the PoP has checked, put together again.
fn request(invoke: &Invoke<'_>, body: Option<Arriving>) -> Option<http::Request<Body>> {
    let mut request = http::Request::new(match body {
        Some(body) => Box::pin(body) as Body,
        None => empty(),
    });
    *request.method_mut() = invoke.method.parse().ok()?;
    *request.uri_mut() = invoke.target.parse().ok()?;
    *request.headers_mut() = header_map(&invoke.fields).ok()?;
    Some(request)
}

fn visit(invoke: &Invoke<'_>) -> Visit {
    let parts = &invoke.visit;
    Visit {
        client: parts.client,
        scheme: if parts.secure { "https" } else { "http" },
        authority: parts.authority.to_owned(),
        request_id: HeaderValue::from_str(parts.request_id).unwrap_or_else(|_| HeaderValue::from_static("-")),
    }
}

pub(super) fn empty() -> Body {
    Box::pin(http_body_util::Empty::new().map_err(|never| match never {}))
}

async fn tidy(inside: Rc<Inside>, link: Rc<Link>) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        inside.worker.tidy().await;
        link.tell(&encode(&Note::Counts(inside.worker.counts())));
    }
}
