//! A stored response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_LENGTH, DATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, response};

use crate::disk::StoredFile;
use crate::key::Key;
use crate::policy::storing::{self, Candidate};
use crate::policy::vary::{self, Selector};
use crate::policy::{Control, Demand, Exchange, NotStored, Overrides, Reuse, Rules, freshness, reuse, validation};
use crate::purge::{Judgement, Purges};
use crate::span::Span;

/// The head of a response that may be stored, and everything about it that is computed once.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// Without what must not be stored, and without `Age`; with a `Date`.
    pub(crate) headers: HeaderMap,
    pub(crate) control: Control,
    /// Which requests it answers: what `Vary` names, and the parts of the key.
    pub(crate) selectors: Box<[Selector]>,
    pub(crate) key: Key,
    pub(crate) received: SystemTime,
    pub(crate) initial_age: Duration,
    pub(crate) lifetime: Duration,
    /// `Content-Length`, or the length of the stored body.
    pub(crate) length: Option<u64>,
    /// The last purge that was in force when the origin was asked.
    pub(crate) purged: u64,
}

impl Head {
    /// The head of a response as it would be stored, or why it must not be.
    pub(crate) fn admit(
        key: &Key,
        request: &Parts,
        demand: &Demand,
        (status, fields): (StatusCode, &HeaderMap),
        (exchange, purged): (Exchange, u64),
        rules: &Rules,
    ) -> Result<Self, NotStored> {
        let control = Control::of_response(fields);
        let lifetime = freshness::lifetime(status, fields, &control, exchange, rules);
        let initial_age = freshness::initial_age(fields, exchange);
        let (control, lifetime) = match request.extensions.get::<Overrides>() {
            None => (control, lifetime),
            Some(it) => it.apply(&request.headers, (status, fields), (control, lifetime), initial_age),
        };
        storing::storable(Candidate {
            method: &request.method,
            request: &request.headers,
            demand,
            status,
            response: fields,
            control: &control,
            lifetime,
        })?;
        let names = vary::names(fields).ok_or(NotStored::Vary)?;
        let mut headers = fields.clone();
        storing::strip_unstored(&mut headers, &control);
        headers.remove(AGE);
        // RFC 9110 section 6.6.1: what has no Date gets the time it arrived.
        if !headers.contains_key(DATE)
            && let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(in_range(exchange.received)))
        {
            headers.insert(DATE, now);
        }
        let length = storing::content_length(&headers).map_err(|storing::Contradiction| NotStored::Framing)?;
        let selectors = vary::selectors(&names, &request.headers);
        let received = exchange.received;
        let key = key.clone();
        Ok(Self { status, headers, control, selectors, key, received, initial_age, lifetime, length, purged })
    }

    /// The head brought up to date by a 304 or a HEAD response (RFC 9111 section 3.2), or why it must not be kept.
    /// The body's length is unchanged whatever the new head says.
    pub(crate) fn freshen(
        &self,
        request: &Parts,
        new: &HeaderMap,
        (exchange, purged): (Exchange, u64),
        rules: &Rules,
    ) -> (Self, Result<(), NotStored>) {
        let mut response = response::Response::new(()).into_parts().0;
        response.status = self.status;
        let control = Control::of_response(&merged_control(&self.headers, new));
        response.headers = validation::freshened(&self.headers, new, &control);
        if let Some(age) = new.get(AGE) {
            response.headers.insert(AGE, age.clone());
        }
        if !new.contains_key(DATE) {
            // The old Date would make what was just confirmed look old.
            response.headers.remove(DATE);
        }
        let get = {
            let mut get = request.clone();
            get.method = http::Method::GET;
            get
        };
        let arrived = (response.status, &response.headers);
        match Self::admit(&self.key, &get, &Demand::default(), arrived, (exchange, purged), rules) {
            Ok(head) => (head, Ok(())),
            Err(reason) => {
                response.headers.remove(AGE);
                let head = Self {
                    status: self.status,
                    headers: response.headers,
                    control,
                    selectors: self.selectors.clone(),
                    key: self.key.clone(),
                    received: exchange.received,
                    initial_age: Duration::ZERO,
                    lifetime: Duration::ZERO,
                    length: self.length,
                    purged,
                };
                (head, Err(reason))
            }
        }
    }

    /// The same head with the length of the body that arrived.
    pub(crate) fn with_length(&self, length: u64) -> Self {
        let mut headers = self.headers.clone();
        // Whatever came with a status that has no content, none of it is sent (RFC 9110 sections 15.3.5 and 15.3.6).
        if matches!(self.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
            headers.remove(CONTENT_LENGTH);
        } else {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        Self {
            status: self.status,
            headers,
            control: self.control.clone(),
            selectors: self.selectors.clone(),
            key: self.key.clone(),
            received: self.received,
            initial_age: self.initial_age,
            lifetime: self.lifetime,
            length: Some(length),
            purged: self.purged,
        }
    }

    /// current_age (RFC 9111 section 4.2.3).
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        freshness::current_age(self.initial_age, self.received, now)
    }

    /// Whether it may be sent without a question to the origin, while or right after it arrives.
    pub(crate) fn sendable(&self, demand: &Demand, now: SystemTime) -> bool {
        let reuse = reuse::reuse(&self.control, self.lifetime, self.age(now), demand);
        matches!(reuse, Reuse::Fresh | Reuse::StaleWhileRevalidate | Reuse::StaleAccepted)
    }

    /// Whether it answers this request (RFC 9111 section 4.1).
    pub(crate) fn answers(&self, key: &Key, request: &HeaderMap) -> bool {
        self.key.parts() == key.parts() && vary::matches(&self.selectors, request)
    }

    /// Seconds of freshness that are left; negative when stale (RFC 9211 section 2.4).
    pub(crate) fn ttl(&self, now: SystemTime) -> i64 {
        left(self.lifetime, self.age(now))
    }

    fn weight(&self) -> u64 {
        let fields: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        let selectors: usize =
            self.selectors.iter().map(|s| 64 + s.value.as_ref().map_or(0, |value| value.len())).sum();
        (fields + selectors + self.key.uri().len() + 512) as u64
    }
}

/// The directives after an update are those of the header after it.
fn merged_control(stored: &HeaderMap, new: &HeaderMap) -> HeaderMap {
    validation::freshened(stored, new, &Control::default())
}

fn left(lifetime: Duration, age: Duration) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    seconds(lifetime).saturating_sub(seconds(age))
}

/// HTTP-date spans the years 1970 to 9999; a clock outside of them must not panic the formatter.
fn in_range(time: SystemTime) -> SystemTime {
    const YEAR_9999: Duration = Duration::from_secs(253_402_300_799);
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + YEAR_9999)
}

/// A stored response: a head and a body.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) head: Arc<Head>,
    pub(crate) body: StoredBody,
    /// Which bytes the body has; `None` for all.
    pub(crate) span: Option<Span>,
    /// The last purge that it was checked against.
    checked: AtomicU64,
    /// When a soft purge made it stale, in milliseconds since 1970; [`NEVER`] for none.
    stale_since: AtomicU64,
    /// It was just read from the disk, and has answered nothing yet.
    recalled: AtomicBool,
}

const NEVER: u64 = u64::MAX;

impl Entry {
    pub(crate) fn new(head: Arc<Head>, body: StoredBody) -> Self {
        let checked = AtomicU64::new(head.purged);
        Self { head, body, span: None, checked, stale_since: AtomicU64::new(NEVER), recalled: AtomicBool::new(false) }
    }

    /// A response that was read from the disk.
    pub(crate) fn recalled(head: Arc<Head>, body: StoredBody) -> Self {
        Self { recalled: AtomicBool::new(true), ..Self::new(head, body) }
    }

    /// Whether its body can be sent: what is on the disk may have been evicted there.
    pub(crate) fn is_there(&self) -> bool {
        self.body.file().is_none_or(|file| file.is_there())
    }

    /// Whether the answer that is made of it now comes from the disk.
    pub(crate) fn comes_from_disk(&self) -> bool {
        // A swap only where it was read to be set: cores share this line.
        let recalled = self.recalled.load(Ordering::Relaxed) && self.recalled.swap(false, Ordering::Relaxed);
        recalled || self.body.file().is_some()
    }

    /// A response of which only a part is there.
    pub(crate) fn of_part(head: Arc<Head>, body: StoredBody, span: Span) -> Self {
        Self { span: Some(span), ..Self::new(head, body) }
    }

    /// Whether no purge covers it. A soft one makes it stale in passing.
    pub(crate) fn survives(&self, purges: &Purges) -> bool {
        let checked = self.checked.load(Ordering::Acquire);
        let latest = purges.latest();
        if checked >= latest {
            return true;
        }
        match purges.judge(checked, &self.head.key, &self.head.headers) {
            Judgement::Purged => return false,
            Judgement::Kept => {}
            Judgement::Stale(since) => {
                let millis = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
                self.stale_since.fetch_min(u64::try_from(millis).unwrap_or(NEVER - 1), Ordering::Relaxed);
            }
        }
        self.checked.fetch_max(latest, Ordering::Release);
        true
    }

    /// The freshness lifetime: where a soft purge ended it, that is when.
    fn lifetime(&self) -> Duration {
        match self.stale_since.load(Ordering::Relaxed) {
            NEVER => self.head.lifetime,
            millis => {
                let since = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
                let age = since.duration_since(self.head.received).map(|lived| self.head.initial_age + lived);
                self.head.lifetime.min(age.unwrap_or_default())
            }
        }
    }

    /// What may be done with it now.
    pub(crate) fn reuse(&self, demand: &Demand, now: SystemTime) -> Reuse {
        reuse::reuse(&self.head.control, self.lifetime(), self.head.age(now), demand)
    }

    /// Whether it may be sent because the origin failed.
    pub(crate) fn sendable_on_error(&self, now: SystemTime, rules: &Rules) -> bool {
        reuse::stale_on_error(&self.head.control, self.lifetime(), self.head.age(now), rules)
    }

    /// Seconds of freshness that are left; negative when stale (RFC 9211 section 2.4).
    pub(crate) fn ttl(&self, now: SystemTime) -> i64 {
        left(self.lifetime(), self.head.age(now))
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> u64 {
        self.head.weight() + self.body.weight()
    }
}

/// A whole body; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StoredBody {
    pub(crate) place: Place,
    pub(crate) length: u64,
}

/// Where a stored body is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In memory, in blocks of [`BLOCK`] bytes.
    Memory(Arc<[Bytes]>),
    /// Too large for that.
    Disk(Arc<StoredFile>),
}

/// Small enough that copying one does not hold up a worker, large enough that a block costs nothing to send.
pub(crate) const BLOCK: usize = 1 << 20;

impl StoredBody {
    /// Copies what arrived into blocks of exactly the size needed: chunks are slices of larger network buffers, and
    /// would keep those alive.
    pub(crate) async fn copy(chunks: &[Bytes]) -> Self {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        let mut blocks = Vec::with_capacity(length.div_ceil(BLOCK));
        let mut left = length;
        let mut block = BytesMut::with_capacity(left.min(BLOCK));
        for chunk in chunks {
            let mut chunk = &chunk[..];
            while !chunk.is_empty() {
                let room = left.min(BLOCK) - block.len();
                let (taken, rest) = chunk.split_at(room.min(chunk.len()));
                block.extend_from_slice(taken);
                chunk = rest;
                if block.len() == left.min(BLOCK) {
                    left -= block.len();
                    blocks.push(std::mem::replace(&mut block, BytesMut::with_capacity(left.min(BLOCK))).freeze());
                    tokio::task::yield_now().await;
                }
            }
        }
        Self::in_memory(blocks)
    }

    /// A body of these blocks, each but the last of [`BLOCK`] bytes.
    pub(crate) fn in_memory(blocks: Vec<Bytes>) -> Self {
        let length = blocks.iter().map(|block| block.len() as u64).sum();
        Self { place: Place::Memory(blocks.into()), length }
    }

    pub(crate) fn on_disk(file: Arc<StoredFile>) -> Self {
        let length = file.length();
        Self { place: Place::Disk(file), length }
    }

    /// The file that it is in, where it is in one.
    pub(crate) fn file(&self) -> Option<&Arc<StoredFile>> {
        match &self.place {
            Place::Memory(_) => None,
            Place::Disk(file) => Some(file),
        }
    }

    /// Bytes of memory that it counts for. One on disk holds a file open, of which a process has only so many.
    fn weight(&self) -> u64 {
        match &self.place {
            Place::Memory(_) => self.length,
            Place::Disk(file) => file.weight(),
        }
    }

    fn blocks(&self) -> &[Bytes] {
        match &self.place {
            Place::Memory(blocks) => blocks,
            Place::Disk(_) => &[],
        }
    }

    /// The bytes from `start` up to, not including, `end`; as many of them as there are.
    pub(crate) fn slices(&self, start: u64, end: u64) -> Vec<Bytes> {
        let (mut slices, mut at) = (Vec::new(), start);
        while at < end {
            let mut slice = self.from(at);
            slice.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
            if slice.is_empty() {
                break;
            }
            at += slice.len() as u64;
            slices.push(slice);
        }
        slices
    }

    /// The bytes from this position up to the end of their block; none behind the last one, nor from a disk.
    pub(crate) fn from(&self, position: u64) -> Bytes {
        let (block, offset) = (position / BLOCK as u64, position % BLOCK as u64);
        let block = usize::try_from(block).ok().and_then(|block| self.blocks().get(block));
        block
            .filter(|block| offset < block.len() as u64)
            .map(|block| block.slice(offset as usize..))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_copied_whole_whatever_its_chunks_are() {
        for (count, size) in [(0, 0), (1, 1), (3, 7), (5, BLOCK), (4, BLOCK / 2), (3, BLOCK + 1), (1, 3 * BLOCK + 5)] {
            let chunks: Vec<_> = (0..count).map(|i| Bytes::from(vec![i as u8; size])).collect();
            let body = StoredBody::copy(&chunks).await;
            assert_eq!(body.blocks().concat(), chunks.concat());
            assert_eq!(body.length as usize, count * size);
            assert!(body.blocks().iter().all(|block| !block.is_empty() && block.len() <= BLOCK));
            for position in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, count * size].map(|p| p.min(count * size)) {
                let rest = body.from(position as u64);
                assert!(chunks.concat()[position..].starts_with(&rest));
                assert_eq!(rest.is_empty(), position == count * size, "{position}");
            }
        }
    }
}
