//! The ops of bodies: those that JavaScript reads, and those that it writes.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use deno_core::convert::Uint8Array;
use deno_core::{JsBuffer, OpState, op2};
use deno_error::{JsErrorBox, JsErrorClass as _};
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::buffers::Buffers;
use crate::extension::{full, gone};
use crate::invocation::{Body, BoxError, Held, Written};
use crate::limits::Limit;

/// A body taken out for reading, with the invocation that it belongs to.
struct Reading {
    body: Body,
    owner: u32,
    /// Ends when the body is closed: by JavaScript, or with its invocation.
    closed: oneshot::Receiver<()>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, JsErrorBox> {
        tokio::select! {
            chunk = next_chunk(&mut self.body) => chunk,
            _ = &mut self.closed => Err(closed()),
        }
    }
}

fn closed() -> JsErrorBox {
    JsErrorBox::type_error("the body is closed")
}

fn take_body(state: &Rc<RefCell<OpState>>, id: u32) -> Result<Reading, JsErrorBox> {
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    let owner = held.bodies.get_mut(id).ok_or_else(closed)?.owner;
    held.begin(owner)?;
    let slot = held.bodies.get_mut(id).ok_or_else(closed)?;
    let Some(body) = slot.body.take() else {
        held.done(owner);
        return Err(JsErrorBox::type_error("the body is being read already"));
    };
    let (reading, closed) = oneshot::channel();
    slot.reading = Some(reading);
    Ok(Reading { body, owner, closed })
}

async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, JsErrorBox> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(JsErrorBox::type_error(format!("the body ended early: {error}"))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
        }
    }
}

#[op2]
pub(crate) async fn op_body_read(
    state: Rc<RefCell<OpState>>,
    #[smi] id: u32,
) -> Result<Option<Uint8Array>, JsErrorBox> {
    let mut reading = take_body(&state, id)?;
    let chunk = reading.next().await;
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    held.done(reading.owner);
    held.touch(reading.owner);
    match (&chunk, held.bodies.get_mut(id)) {
        (Ok(Some(_)), Some(slot)) => slot.body = Some(reading.body),
        _ => drop(held.bodies.remove(id)),
    }
    Ok(chunk?.map(|bytes| Vec::from(bytes).into()))
}

#[op2]
pub(crate) async fn op_body_read_all(state: Rc<RefCell<OpState>>, #[smi] id: u32) -> Result<Uint8Array, JsErrorBox> {
    let mut reading = take_body(&state, id)?;
    let mut all = Gathered::new(Arc::clone(&state.borrow().borrow::<Held>().buffers));
    let result = loop {
        match reading.next().await {
            Ok(None) => break Ok(()),
            Ok(Some(chunk)) if all.push(&chunk) => {}
            Ok(Some(_)) => {
                break Err(JsErrorBox::range_error(
                    "the body does not fit into the limit on buffers (buffer_bytes): read it as a stream",
                ));
            }
            Err(error) => break Err(error),
        }
    };
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    held.bodies.remove(id);
    held.done(reading.owner);
    held.touch(reading.owner);
    if result.as_ref().is_err_and(|error| error.get_class() == "RangeError")
        && let Some(invocation) = held.invocations.get_mut(reading.owner)
    {
        invocation.broke.get_or_insert(Limit::Buffers);
    }
    result.map(|()| all.take().into())
}

/// A body being gathered; its bytes count as buffers although JavaScript does not have them yet.
struct Gathered {
    bytes: BytesMut,
    buffers: Arc<Buffers>,
}

impl Gathered {
    fn new(buffers: Arc<Buffers>) -> Self {
        Self { bytes: BytesMut::new(), buffers }
    }

    /// Whether there was room.
    fn push(&mut self, chunk: &[u8]) -> bool {
        let room = self.buffers.reserve(chunk.len());
        if room {
            self.bytes.extend_from_slice(chunk);
        }
        room
    }

    fn take(mut self) -> Vec<u8> {
        self.buffers.release(self.bytes.len());
        Vec::from(std::mem::take(&mut self.bytes))
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.buffers.release(self.bytes.len());
    }
}

#[op2(fast)]
pub(crate) fn op_body_close(state: &mut OpState, #[smi] id: u32) {
    state.borrow_mut::<Held>().bodies.remove(id);
}

/// A body that JavaScript writes. One chunk may wait: the writer goes on when the reader has taken it.
struct Streamed {
    channel: mpsc::Receiver<Written>,
    ended: bool,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(self.channel.poll_recv(cx));
        if let Some(Written::Chunk(bytes)) = item {
            return Poll::Ready(Some(Ok(http_body::Frame::data(bytes))));
        }
        self.ended = true;
        Poll::Ready(match item {
            Some(Written::End) => None,
            Some(Written::Failed(error)) => Some(Err(error)),
            _ => Some(Err("the function was ended before its stream was".into())),
        })
    }
}

#[op2(fast)]
#[smi]
pub(crate) fn op_stream_new(state: &mut OpState, #[smi] owner: u32) -> Result<u32, JsErrorBox> {
    let held = state.borrow_mut::<Held>();
    if owner != 0 && held.invocations.get_mut(owner).is_none() {
        return Err(gone());
    }
    let (sender, channel) = mpsc::channel(1);
    let id = held.insert_body(owner, Box::pin(Streamed { channel, ended: false })).ok_or_else(full)?;
    held.writers.insert(id, sender);
    Ok(id)
}

/// Gives a chunk to the reader of `id`; whether there is one still. It comes back when there is room for another.
#[op2]
pub(crate) async fn op_stream_write(
    state: Rc<RefCell<OpState>>,
    #[smi] owner: u32,
    #[smi] id: u32,
    #[buffer] chunk: JsBuffer,
) -> Result<bool, JsErrorBox> {
    let sender = {
        let mut state = state.borrow_mut();
        let held = state.borrow_mut::<Held>();
        let Some(sender) = held.writers.get(&id).cloned() else { return Ok(false) };
        held.begin(owner)?;
        sender
    };
    let sent = sender.send(Written::Chunk(Bytes::copy_from_slice(&chunk))).await.is_ok();
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    held.done(owner);
    held.touch(owner);
    if !sent {
        held.writers.remove(&id);
    }
    Ok(sent)
}

#[op2(fast)]
pub(crate) fn op_stream_end(state: &mut OpState, #[smi] id: u32, #[string] error: String) {
    let Some(sender) = state.borrow_mut::<Held>().writers.remove(&id) else { return };
    let last = if error.is_empty() { Written::End } else { Written::Failed(error.into()) };
    // It waits its turn behind a chunk that the reader has not taken yet.
    if let Err(mpsc::error::TrySendError::Full(last)) = sender.try_send(last) {
        deno_core::unsync::spawn(async move {
            let _ = sender.send(last).await;
        });
    }
}
