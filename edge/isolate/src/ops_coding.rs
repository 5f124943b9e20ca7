//! Bodies that are decoded or measured on their way: gzip, deflate and brotli, a bounded piece at a time.

use std::io::{BufRead, ErrorKind, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use deno_core::{OpState, op2};
use deno_error::JsErrorBox;
use flate2::{Decompress, FlushDecompress, Status};

use crate::invocation::{Body, BoxError, Held};

/// What one step gives out at most, and so all that a small input can blow up to in memory before somebody takes it.
const PIECE: usize = 64 << 10;
/// Pieces between two rests, so that a small body that decodes to a huge one does not hold its thread.
const BURST: u32 = 16;
/// Decoders that one isolate may have at work. Each holds a window outside the heap: brotli's is up to 16 MiB.
const MAX_DECODERS: usize = 128;

/// Counts the decoders of an isolate, itself included.
#[derive(Clone, Default)]
pub(crate) struct Decoders(Arc<()>);

/// Makes a body held for JavaScript give what `coding` encoded. False when it is not there to be changed.
#[op2(fast)]
pub(crate) fn op_body_decode(state: &mut OpState, #[smi] id: u32, #[string] coding: &str) -> Result<bool, JsErrorBox> {
    let ticket = state.borrow::<Decoders>().clone();
    if Arc::strong_count(&ticket.0) > MAX_DECODERS + 2 {
        return Err(JsErrorBox::range_error(format!("more than {MAX_DECODERS} compressed bodies are being read")));
    }
    let decoder = Decoder::new(coding)
        .ok_or_else(|| JsErrorBox::type_error(format!("{coding:?} is not a content coding known here")))?;
    Ok(replace(state, id, |body| {
        Box::pin(Decoded { body, decoder, out: vec![0; PIECE].into(), burst: 0, over: false, _ticket: ticket })
    }))
}

/// Tells the length of a body that JavaScript writes.
#[op2(fast)]
pub(crate) fn op_body_length(state: &mut OpState, #[smi] id: u32, #[number] length: u64) -> bool {
    replace(state, id, |body| Box::pin(Measured { body, left: length }))
}

fn replace(state: &mut OpState, id: u32, change: impl FnOnce(Body) -> Body) -> bool {
    let Some(slot) = state.borrow_mut::<Held>().bodies.get_mut(id) else { return false };
    let body = slot.body.take();
    slot.body = body.map(change);
    slot.body.is_some()
}

/// Input as it arrives: none at the moment is an error that says so, and not the end.
#[derive(Default)]
struct Input {
    chunk: Bytes,
    ended: bool,
    /// Something arrived.
    begun: bool,
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = {
            let from = self.fill_buf()?;
            let length = from.len().min(out.len());
            out[..length].copy_from_slice(&from[..length]);
            length
        };
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.chunk.is_empty() && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, count: usize) {
        self.chunk.advance(count);
    }
}

enum Decoder {
    Gzip(flate2::bufread::MultiGzDecoder<Input>),
    Brotli(Box<brotli::Decompressor<Input>>),
    Deflate {
        input: Input,
        state: Decompress,
        ended: bool,
    },
    /// "deflate" of HTTP, of which one cannot know whether it has the header of zlib before its first byte.
    Unknown(Input),
}

impl Decoder {
    fn new(coding: &str) -> Option<Self> {
        let input = Input::default();
        Some(match coding {
            "gzip" => Self::Gzip(flate2::bufread::MultiGzDecoder::new(input)),
            "br" => Self::Brotli(Box::new(brotli::Decompressor::new(input, 4096))),
            "deflate" => Self::Unknown(input),
            "zlib" => Self::Deflate { input, state: Decompress::new(true), ended: false },
            "deflate-raw" => Self::Deflate { input, state: Decompress::new(false), ended: false },
            _ => return None,
        })
    }

    fn input(&mut self) -> &mut Input {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Deflate { input, .. } | Self::Unknown(input) => input,
        }
    }

    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if let Self::Unknown(input) = self {
            let zlib = input.fill_buf()?.first().is_some_and(|first| first & 0x0f == 8 && first >> 4 <= 7);
            *self = Self::Deflate { input: std::mem::take(input), state: Decompress::new(zlib), ended: false };
        }
        match self {
            Self::Gzip(decoder) => decoder.read(out),
            Self::Brotli(decoder) => decoder.read(out),
            Self::Deflate { input, state, ended } => inflate(input, state, ended, out),
            Self::Unknown(_) => Ok(0),
        }
    }
}

fn inflate(input: &mut Input, state: &mut Decompress, ended: &mut bool, out: &mut [u8]) -> std::io::Result<usize> {
    while !*ended {
        let from = input.fill_buf()?;
        let at_end = from.is_empty();
        let (had_in, had_out) = (state.total_in(), state.total_out());
        let status = state.decompress(from, out, FlushDecompress::None)?;
        input.consume(usize::try_from(state.total_in() - had_in).unwrap_or(0));
        *ended = matches!(status, Status::StreamEnd);
        let given = usize::try_from(state.total_out() - had_out).unwrap_or(0);
        if given > 0 {
            return Ok(given);
        }
        if at_end && !*ended {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    if input.chunk.is_empty() { Ok(0) } else { Err(std::io::Error::new(ErrorKind::InvalidData, "data after the end")) }
}

struct Decoded {
    body: Body,
    decoder: Decoder,
    out: Box<[u8]>,
    burst: u32,
    over: bool,
    _ticket: Decoders,
}

impl http_body::Body for Decoded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if this.burst == BURST {
            this.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let input = this.decoder.input();
            if input.begun {
                match this.decoder.read(&mut this.out) {
                    Ok(0) => {
                        this.over = true;
                        return Poll::Ready(None);
                    }
                    Ok(count) => {
                        this.burst += 1;
                        let piece = Bytes::copy_from_slice(&this.out[..count]);
                        return Poll::Ready(Some(Ok(http_body::Frame::data(piece))));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => {
                        this.over = true;
                        return Poll::Ready(Some(Err(format!("its compressed data is malformed: {error}").into())));
                    }
                }
            }
            let frame = match this.body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    this.burst = 0;
                    return Poll::Pending;
                }
            };
            let input = this.decoder.input();
            match frame {
                None if !input.begun => {
                    this.over = true;
                    return Poll::Ready(None);
                }
                None => input.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        input.chunk = data;
                        input.begun = true;
                    }
                }
                Some(Err(error)) => {
                    this.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// A body whose length was promised, and is kept to.
struct Measured {
    body: Body,
    left: u64,
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(self.body.as_mut().poll_frame(cx));
        let length =
            frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, |data| data.len() as u64);
        Poll::Ready(match (self.left.checked_sub(length), &frame) {
            (None, _) => Some(Err("the body is longer than was promised".into())),
            (Some(left), None) if left > 0 => Some(Err("the body is shorter than was promised".into())),
            (Some(left), _) => {
                self.left = left;
                frame
            }
        })
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
