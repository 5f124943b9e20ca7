//! A cache without an origin behind it: what is put is what is found. For the Cache API of functions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Response};

use super::lead::{self, Guard};
use super::{recall, reply};
use crate::body::{Body, OriginBody};
use crate::cache::{Cache, Shared};
use crate::entry::{Entry, Head, StoredBody};
use crate::failure::OriginFailure;
use crate::key::Key;
use crate::policy::{Demand, Exchange, NotStored, Overrides, Reuse};
use crate::store::Found;

/// The fresh response that is stored under this key and answers this request: 206 for a range of it, 304 where its
/// conditions say so. `None` for all else, also for what is stale, whatever its `stale-while-revalidate` says: nobody
/// would validate it.
pub async fn get(cache: &Cache, key: &Key, request: &Parts) -> Option<Response<Body>> {
    let shared = &cache.shared;
    let entry = found(shared, key, request).await?;
    Some(reply::hit(shared, request, &entry, shared.now()))
}

/// The same, from the disk when memory does not have it.
async fn found(shared: &Shared, key: &Key, request: &Parts) -> Option<Arc<Entry>> {
    if let Some(entry) = fresh(shared, key, request) {
        return Some(entry);
    }
    recall::from_disk(shared, key, &request.headers).await;
    fresh(shared, key, request)
}

fn fresh(shared: &Shared, key: &Key, request: &Parts) -> Option<Arc<Entry>> {
    let Found::Entry(entry) = shared.stored(key, &request.headers) else { return None };
    let now = shared.now();
    let is_fresh = entry.reuse(&Demand::default(), now) == Reuse::Fresh && !shared.purges.is_fenced(now);
    is_fresh.then_some(entry)
}

/// Stores a response under this key once its body has arrived whole, as the answer to this request, by the rules that
/// count for answers of origins; what says nothing of its lifetime gets its status's
/// ([`everything`](Overrides::everything)). `Ok(Err)` says why it was not stored; the rest of its body is then not read.
///
/// # Errors
/// The body broke off, or stood still for too long. Nothing is stored then.
pub async fn put(
    cache: &Cache,
    key: &Key,
    mut request: Parts,
    response: Response<OriginBody>,
) -> Result<Result<(), NotStored>, OriginFailure> {
    let shared = &cache.shared;
    let Some(fill) = shared.flights.alone(key) else { return Ok(Err(NotStored::Overload)) };
    let guard = Guard::new(shared, fill);
    let (mut parts, mut body) = response.into_parts();
    // How long it is shows when it has arrived.
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(TRANSFER_ENCODING);
    request.method = Method::GET;
    request.extensions.insert(Overrides { everything: true, ..Overrides::default() });
    let now = shared.now();
    let exchange = (Exchange { requested: now, received: now }, guard.fill().purged());
    let arrived = (parts.status, &parts.headers);
    let head = match Head::admit(key, &request, &Demand::default(), arrived, exchange, &shared.config.rules) {
        Ok(head) => head,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut length = 0;
    while let Some(chunk) = lead::next_chunk(shared, &mut body).await? {
        length += chunk.len() as u64;
        if length > shared.config.object_limit() {
            return Ok(Err(NotStored::TooLarge));
        }
        // Counted with all that arrives, until the guard goes.
        guard.fill().push(chunk);
        if shared.ledger.bytes.load(Ordering::Relaxed) > shared.config.fill_capacity_bytes {
            return Ok(Err(NotStored::Overload));
        }
    }
    let body = StoredBody::copy(&guard.fill().chunks()).await;
    let stored = lead::store(&guard, Arc::new(head.with_length(length)), body, None);
    Ok(if stored { Ok(()) } else { Err(NotStored::Invalidated) })
}

/// Removes all responses under this key, and what is being put there. Whether one of them would have answered this
/// request.
pub async fn delete(cache: &Cache, key: &Key, request: &Parts) -> bool {
    let there = found(&cache.shared, key, request).await.is_some();
    cache.shared.invalidate(key);
    there
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;
    use crate::{Clock, Config};

    struct Now(Mutex<SystemTime>);

    impl Clock for Now {
        fn now(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }
    }

    fn cache() -> (Cache, Arc<Now>) {
        let now = Arc::new(Now(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30))));
        let config = Config { capacity_bytes: 1 << 20, max_object_bytes: 1000, ..Config::default() };
        (Cache::with_clock(config, Arc::clone(&now) as _), now)
    }

    fn request(fields: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::get("http://h/a");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn key() -> Key {
        Key::of_uri(&"http://h/a".parse().unwrap()).unwrap().in_space(&["test"])
    }

    fn response(text: &str, fields: &[(&str, &str)]) -> Response<OriginBody> {
        let mut builder = Response::builder();
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let body = Full::from(text.to_owned()).map_err(|never| match never {}).boxed_unsync();
        builder.body(body).unwrap()
    }

    async fn found(cache: &Cache, fields: &[(&str, &str)]) -> Option<(u16, Bytes)> {
        let response = get(cache, &key(), &request(fields)).await?;
        Some((response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes()))
    }

    async fn put_text(cache: &Cache, text: &str, fields: &[(&str, &str)]) -> Result<(), NotStored> {
        put(cache, &key(), request(&[]), response(text, fields)).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_put_is_found_whole_in_parts_and_by_condition_until_it_is_stale() {
        let (cache, now) = cache();
        assert!(found(&cache, &[]).await.is_none());
        let fields =
            [("cache-control", "s-maxage=10, stale-while-revalidate=100"), ("etag", "\"1\""), ("content-length", "9")];
        put_text(&cache, "hello", &fields).await.unwrap();
        assert_eq!(found(&cache, &[]).await.unwrap(), (200, "hello".into()));
        assert_eq!(found(&cache, &[("range", "bytes=1-2")]).await.unwrap(), (206, "el".into()));
        assert_eq!(found(&cache, &[("if-none-match", "\"1\"")]).await.unwrap(), (304, Bytes::new()));
        *now.0.lock().unwrap() += Duration::from_secs(10);
        assert!(found(&cache, &[]).await.is_none(), "stale, and nobody would validate it");
    }

    #[tokio::test]
    async fn a_response_that_says_nothing_of_its_lifetime_has_its_statuss() {
        let (cache, now) = cache();
        put_text(&cache, "hello", &[]).await.unwrap();
        *now.0.lock().unwrap() += Duration::from_secs(7199);
        assert!(found(&cache, &[]).await.is_some());
        *now.0.lock().unwrap() += Duration::from_secs(1);
        assert!(found(&cache, &[]).await.is_none());
    }

    #[tokio::test]
    async fn what_may_not_be_shared_or_is_too_large_is_not_stored() {
        let (cache, _) = cache();
        let put = async |text: &str, fields: &[_]| put_text(&cache, text, fields).await;
        assert_eq!(put("x", &[("cache-control", "no-store")]).await, Err(NotStored::NoStore));
        assert_eq!(put("x", &[("set-cookie", "a=b"), ("cache-control", "max-age=9")]).await, Err(NotStored::SetCookie));
        assert_eq!(put("x", &[("vary", "*")]).await, Err(NotStored::Vary));
        assert_eq!(put(&"x".repeat(1001), &[]).await, Err(NotStored::TooLarge));
        assert!(found(&cache, &[]).await.is_none());
        assert_eq!(cache.fill_bytes() + cache.fills() as u64, 0, "nothing stays behind");
        put("x", &[("set-cookie", "a=b"), ("cache-control", "private=set-cookie, max-age=9")]).await.unwrap();
        let stored = get(&cache, &key(), &request(&[])).await.unwrap();
        assert!(!stored.headers().contains_key("set-cookie") && stored.headers().contains_key("cache-status"));
        assert_eq!(stored.headers()["age"], "0");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_leaves_what_was_there() {
        let (cache, _) = cache();
        put_text(&cache, "first", &[]).await.unwrap();
        let parts = [Ok(http_body::Frame::data(Bytes::from("sec"))), Err("broken".into())];
        let body = StreamBody::new(futures::stream::iter(parts)).boxed_unsync();
        assert!(put(&cache, &key(), request(&[]), Response::new(body)).await.is_err());
        assert_eq!(found(&cache, &[]).await.unwrap().1, "first");
    }

    #[tokio::test]
    async fn delete_says_whether_there_was_one_and_stops_what_is_being_put() {
        let (cache, _) = cache();
        assert!(!delete(&cache, &key(), &request(&[])).await);
        put_text(&cache, "hello", &[]).await.unwrap();
        let (sender, receiver) = futures::channel::oneshot::channel::<()>();
        let late = futures::stream::once(async move {
            receiver.await.unwrap();
            Ok(http_body::Frame::data(Bytes::from("late")))
        });
        let putting = tokio::spawn({
            let cache = cache.clone();
            async move { put(&cache, &key(), request(&[]), Response::new(StreamBody::new(late).boxed_unsync())).await }
        });
        tokio::task::yield_now().await;
        assert!(delete(&cache, &key(), &request(&[])).await);
        sender.send(()).unwrap();
        assert_eq!(putting.await.unwrap().unwrap(), Err(NotStored::Invalidated));
        assert!(found(&cache, &[]).await.is_none() && !delete(&cache, &key(), &request(&[])).await);
    }

    #[tokio::test]
    async fn variants_are_found_by_what_they_vary_by() {
        let (cache, _) = cache();
        let with = |value| request(&[("accept-language", value)]);
        for language in ["de", "en"] {
            let answer = response(language, &[("vary", "accept-language")]);
            put(&cache, &key(), with(language), answer).await.unwrap().unwrap();
        }
        for (language, is_there) in [("de", true), ("en", true), ("fr", false)] {
            assert_eq!(get(&cache, &key(), &with(language)).await.is_some(), is_there, "{language}");
        }
    }
}
