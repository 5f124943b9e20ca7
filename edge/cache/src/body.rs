//! The bodies that come from the origin and go to clients.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use crate::answer::Part;
use crate::disk::FileReader;
use crate::entry::{Place, StoredBody};
use crate::fill::Reader;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body from the origin: `body.boxed_unsync()` of [`http_body_util::BodyExt`] makes one.
pub type OriginBody = UnsyncBoxBody<Bytes, BoxError>;

/// A body for a client. It ends with an error when the response did not arrive whole: the connection must then be
/// broken off, never ended as if all were well. The size hint is exact where the length is known.
pub struct Body {
    source: Source,
    /// The part of the source that is wanted; `None` for all.
    window: Option<Window>,
}

enum Source {
    Empty,
    Once(Bytes),
    Stored { blocks: Arc<[Bytes]>, next: usize, left: u64 },
    Disk(Box<FileReader>),
    Arriving(Reader),
    Origin(OriginBody),
}

/// How much to leave out, then how much to give.
struct Window {
    skip: u64,
    left: u64,
}

/// The source ended before the wanted part did.
#[derive(Debug, thiserror::Error)]
#[error("the body ended {missing} bytes early; the response is incomplete, ask again")]
struct Short {
    missing: u64,
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self { source: Source::Empty, window: None }
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Once(bytes.into()), window: None }
    }

    pub(crate) fn stored(body: &StoredBody, part: Part) -> Self {
        let blocks = match (&body.place, part) {
            (_, Part::Nothing) => return Self::empty(),
            (Place::Memory(blocks), _) => blocks,
            (Place::Disk(file), Part::Whole) => return Self::read(file.read(0, body.length)),
            (Place::Disk(file), Part::Range { start, end }) => return Self::read(file.read(start, end)),
        };
        match (&**blocks, part) {
            (_, Part::Nothing) | ([], _) => Self::empty(),
            ([block], Part::Whole) => Self::full(block.clone()),
            ([block], Part::Range { start, end }) => Self::full(block.slice(start as usize..end as usize)),
            (_, part) => {
                let source = Source::Stored { blocks: Arc::clone(blocks), next: 0, left: body.length };
                Self { source, window: Window::of(part) }
            }
        }
    }

    fn read(reader: FileReader) -> Self {
        Self { source: Source::Disk(Box::new(reader)), window: None }
    }

    pub(crate) fn arriving(reader: Reader, part: Part) -> Self {
        match part {
            Part::Nothing => Self::empty(),
            part => Self { source: Source::Arriving(reader), window: Window::of(part) },
        }
    }

    pub(crate) fn origin(body: OriginBody, part: Part) -> Self {
        match part {
            Part::Nothing => Self::empty(),
            part => Self { source: Source::Origin(body), window: Window::of(part) },
        }
    }
}

impl Window {
    fn of(part: Part) -> Option<Self> {
        match part {
            Part::Range { start, end } => Some(Self { skip: start, left: end - start }),
            Part::Whole | Part::Nothing => None,
        }
    }

    /// The piece of these bytes that is wanted.
    fn cut(&mut self, mut bytes: Bytes) -> Bytes {
        let skipped = self.skip.min(bytes.len() as u64);
        bytes.advance(skipped as usize);
        self.skip -= skipped;
        let kept = self.left.min(bytes.len() as u64);
        bytes.truncate(kept as usize);
        self.left -= kept;
        bytes
    }
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Once(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stored { blocks, next, left } => {
                let block = blocks.get(*next).cloned();
                *next += 1;
                *left -= block.as_ref().map_or(0, |block| block.len() as u64);
                Poll::Ready(block.map(|block| Ok(Frame::data(block))))
            }
            Self::Disk(reader) => reader.poll(cx).map(|bytes| bytes.map(|bytes| bytes.map(Frame::data))),
            Self::Arriving(reader) => reader.poll(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            Self::Origin(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Once(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stored { left, .. } => SizeHint::with_exact(*left),
            Self::Disk(reader) => SizeHint::with_exact(reader.left()),
            Self::Arriving(reader) => reader.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Origin(body) => body.size_hint(),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(bytes) => bytes.is_empty(),
            Self::Stored { left, .. } => *left == 0,
            Self::Disk(reader) => reader.left() == 0,
            // What was promised is there: whoever sends a body must know that nothing follows.
            Self::Arriving(reader) => reader.left() == Some(0),
            Self::Origin(body) => body.is_end_stream(),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { source, window } = &mut *self;
        let Some(window) = window else { return source.poll(cx) };
        while window.left > 0 {
            let Some(frame) = ready!(source.poll(cx)?) else {
                let missing = std::mem::take(&mut window.left);
                return Poll::Ready(Some(Err(Short { missing }.into())));
            };
            let Ok(bytes) = frame.into_data() else { continue };
            let bytes = window.cut(bytes);
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        *source = Source::Empty;
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.window.as_ref().map_or_else(|| self.source.is_end(), |window| window.left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        self.window.as_ref().map_or_else(|| self.source.size_hint(), |window| SizeHint::with_exact(window.left))
    }
}
