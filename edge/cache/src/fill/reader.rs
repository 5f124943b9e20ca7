//! Reading a fill while it is written.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as HttpBody;

use super::{Fill, Leader, Seat, Stage};
use crate::body::{BoxError, OriginBody};
use crate::disk::FileReader;
use crate::entry::{Head, StoredBody};
use crate::failure::OriginFailure;
use crate::policy::{storing, validation};

/// Reads the body of a fill from its start, as fast as it arrives.
pub(crate) struct Reader {
    head: Arc<Head>,
    role: Role,
    /// Bytes given so far.
    position: u64,
    tail: Tail,
}

/// How a follower goes on when the body turns out too large to share: by a request of its own.
pub(crate) type Resume = Box<dyn FnOnce() -> Asked + Send>;
type Asked = Pin<Box<dyn Future<Output = Result<Response<OriginBody>, OriginFailure>> + Send>>;

enum Role {
    Leader,
    Follower(Option<Resume>),
}

/// Where the next bytes come from. Only the first two hold on to the fill, and so to its chunks.
enum Tail {
    /// What arrives.
    Shared(Seat),
    /// The same, for who is too slow for what memory has of it: first what is on the disk.
    Behind(Seat, Box<FileReader>),
    /// The whole body.
    Stored(StoredBody),
    /// The rest of a body that is too large for memory.
    Disk(FileReader),
    Asking(Asked),
    /// The origin's body, of which so many bytes were already sent.
    Direct {
        body: OriginBody,
        skip: u64,
    },
    Ended,
}

/// Why a body can't be finished.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the response broke off while it arrived from the origin; ask again")]
    Aborted(#[source] OriginFailure),
    #[error("the response is too large to share and can't be resumed; ask again")]
    CannotResume,
    #[error("the response ended early; ask again")]
    Early,
    #[error("the response changed at the origin while it was sent; ask again")]
    Changed,
}

impl Reader {
    /// The reader that keeps the body coming when it turns out too large. At most one of a fill.
    pub(crate) fn leader(fill: Arc<Fill>, head: Arc<Head>) -> Self {
        fill.lock().leader = Leader::Reading;
        Self::new(fill, head, Role::Leader)
    }

    pub(crate) fn follower(fill: Arc<Fill>, head: Arc<Head>, resume: Resume) -> Self {
        Self::new(fill, head, Role::Follower(Some(resume)))
    }

    fn new(fill: Arc<Fill>, head: Arc<Head>, role: Role) -> Self {
        Self { head, role, position: 0, tail: Tail::Shared(Seat::take(fill)) }
    }

    /// Bytes still to come, where the length is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.head.length.map(|length| length.saturating_sub(self.position))
    }

    /// The next bytes; `None` only when all bytes were there.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            let step = match &mut self.tail {
                Tail::Ended => return Poll::Ready(None),
                Tail::Shared(seat) => match ready!(seat.poll(self.position, &self.role, cx)) {
                    Step::Chunk(chunk) => Ok(Some(chunk)),
                    Step::Behind(file) => {
                        let Tail::Shared(seat) = std::mem::replace(&mut self.tail, Tail::Ended) else { continue };
                        self.tail = Tail::Behind(seat, file);
                        Ok(None)
                    }
                    Step::Whole(body) => {
                        self.tail = match body.file() {
                            Some(file) => Tail::Disk(file.read(self.position, body.length)),
                            None => Tail::Stored(body),
                        };
                        Ok(None)
                    }
                    Step::Detached(rest) => self.leave(rest),
                    Step::Broken(broken) => Err(broken.into()),
                },
                Tail::Stored(body) => {
                    let rest = body.from(self.position);
                    if rest.is_empty() {
                        self.tail = Tail::Ended;
                    }
                    Ok(Some(rest))
                }
                Tail::Disk(file) => match ready!(file.poll(cx)) {
                    Some(read) => read.map(Some),
                    None => {
                        self.tail = Tail::Ended;
                        Ok(None)
                    }
                },
                Tail::Behind(_, file) => match ready!(file.poll(cx)) {
                    Some(read) => read.map(Some),
                    None => {
                        let Tail::Behind(seat, _) = std::mem::replace(&mut self.tail, Tail::Ended) else { continue };
                        self.tail = Tail::Shared(seat);
                        Ok(None)
                    }
                },
                Tail::Asking(asked) => {
                    let response = ready!(asked.as_mut().poll(cx));
                    response.map_err(BoxError::from).and_then(|response| self.resume_with(response))
                }
                Tail::Direct { body, skip } => {
                    let Some(frame) = ready!(Pin::new(body).poll_frame(cx)) else {
                        let complete = self.head.length.is_none_or(|length| length == self.position) && *skip == 0;
                        self.tail = Tail::Ended;
                        return Poll::Ready((!complete).then(|| Err(Broken::Early.into())));
                    };
                    frame.map(|frame| {
                        let mut data = frame.into_data().unwrap_or_default();
                        let skipped = (*skip).min(data.len() as u64);
                        data.advance(skipped as usize);
                        *skip -= skipped;
                        Some(data)
                    })
                }
            };
            match step {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => {
                    self.position += bytes.len() as u64;
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Ok(None) => {}
                Err(error) => {
                    self.tail = Tail::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Goes on by other means than the shared chunks.
    fn leave(&mut self, rest: Option<OriginBody>) -> Result<Option<Bytes>, BoxError> {
        self.tail = match &mut self.role {
            Role::Leader => rest.map(|body| Tail::Direct { body, skip: 0 }),
            Role::Follower(resume) => resume.take().map(|resume| Tail::Asking(resume())),
        }
        .ok_or(Broken::CannotResume)?;
        Ok(None)
    }

    /// Goes on with the answer to a request of its own, if it is provably the same representation.
    fn resume_with(&mut self, response: Response<OriginBody>) -> Result<Option<Bytes>, BoxError> {
        let same_length = storing::content_length(response.headers()).is_ok_and(|length| length == self.head.length);
        let same = response.status() == StatusCode::OK
            && self.head.status == StatusCode::OK
            && same_length
            && same_bytes(response.headers(), &self.head.headers);
        if !same {
            return Err(Broken::Changed.into());
        }
        self.tail = Tail::Direct { body: response.into_body(), skip: self.position };
        Ok(None)
    }
}

/// What comes next out of a fill.
enum Step {
    Chunk(Bytes),
    /// It is on the disk.
    Behind(Box<FileReader>),
    Whole(StoredBody),
    /// The chunks end here; the rest is for the leader.
    Detached(Option<OriginBody>),
    Broken(Broken),
}

impl Seat {
    fn poll(&self, position: u64, role: &Role, cx: &mut Context<'_>) -> Poll<Step> {
        let mut state = self.fill.lock();
        if let Some(chunk) = state.chunks.from(position) {
            return Poll::Ready(Step::Chunk(chunk));
        }
        if let Some(spilled) = state.spilled.as_ref().filter(|spilled| position < spilled.bytes()) {
            return Poll::Ready(Step::Behind(Box::new(spilled.from(position))));
        }
        Poll::Ready(match &mut state.stage {
            Stage::Asking | Stage::Arriving(_) => {
                let old = state.sleepers.insert(self.number, cx.waker().clone());
                drop(state);
                drop(old);
                return Poll::Pending;
            }
            Stage::Complete(_, body) => Step::Whole(body.clone()),
            Stage::Aborted(failure) => Step::Broken(Broken::Aborted(failure.clone())),
            Stage::Settled(_) => Step::Broken(Broken::CannotResume),
            Stage::Detached { rest } => Step::Detached(if matches!(role, Role::Leader) { rest.take() } else { None }),
        })
    }
}

/// Whether two heads promise the same bytes: equal strong tags, or, without tags, equal modification times.
fn same_bytes(a: &HeaderMap, b: &HeaderMap) -> bool {
    match (a.get(ETAG), b.get(ETAG)) {
        (Some(a), Some(b)) => validation::strongly_equal(a.as_bytes(), b.as_bytes()),
        (None, None) => a.contains_key(LAST_MODIFIED) && a.get(LAST_MODIFIED) == b.get(LAST_MODIFIED),
        _ => false,
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (Role::Leader, Tail::Shared(seat) | Tail::Behind(seat, _)) = (&self.role, &self.tail) else { return };
        let rest = {
            let mut state = seat.fill.lock();
            state.leader = Leader::Gone;
            match &mut state.stage {
                Stage::Detached { rest } => rest.take(),
                _ => None,
            }
        };
        // Outside the lock: dropping a body closes its connection.
        drop(rest);
    }
}
