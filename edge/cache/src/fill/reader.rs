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
use crate::entry::Head;
use crate::failure::OriginFailure;
use crate::policy::{storing, validation};

/// Reads the body of a fill from its start, as fast as it arrives.
pub(crate) struct Reader {
    seat: Seat,
    head: Arc<Head>,
    role: Role,
    next: usize,
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

/// Where the bytes behind the shared chunks come from.
enum Tail {
    Shared,
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
        Self { seat: Seat::take(fill), head, role, next: 0, position: 0, tail: Tail::Shared }
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
                Tail::Shared => ready!(self.poll_shared(cx)),
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

    /// The next shared chunk; `None` when the tail has changed.
    fn poll_shared(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BoxError>> {
        let mut state = self.seat.fill.lock();
        if let Some(chunk) = state.chunks.get(self.next) {
            self.next += 1;
            return Poll::Ready(Ok(Some(chunk.clone())));
        }
        match &mut state.stage {
            Stage::Asking | Stage::Arriving(_) => {
                let old = state.sleepers.insert(self.seat.number, cx.waker().clone());
                drop(state);
                drop(old);
                Poll::Pending
            }
            Stage::Complete(_) => {
                self.tail = Tail::Ended;
                Poll::Ready(Ok(None))
            }
            Stage::Aborted(failure) => Poll::Ready(Err(Broken::Aborted(failure.clone()).into())),
            Stage::Settled(_) => Poll::Ready(Err(Broken::CannotResume.into())),
            Stage::Detached { rest } => {
                self.tail = match &mut self.role {
                    Role::Leader => rest.take().map(|body| Tail::Direct { body, skip: 0 }),
                    Role::Follower(resume) => resume.take().map(|resume| Tail::Asking(resume())),
                }
                .ok_or(Broken::CannotResume)?;
                Poll::Ready(Ok(None))
            }
        }
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
        if !matches!(self.role, Role::Leader) {
            return;
        }
        let rest = {
            let mut state = self.seat.fill.lock();
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
