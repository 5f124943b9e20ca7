//! Objects in a bucket of S3 or of a server that speaks its protocol.
//!
//! Conditional puts are `If-None-Match: *` and `If-Match`; the server must support both. A connection that breaks
//! after such a put arrived is retried, and the retry may answer that the condition no longer holds: who asked must
//! read again, as for any conflict. Uploads of large bodies that are cut off by a crash leave parts behind; give the
//! bucket a lifecycle rule that removes them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    Attribute, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutOptions,
    PutPayload, RetryConfig, UpdateVersion, WriteMultipart,
};

use super::{
    Attributes, Body, BoxError, MAX_PAGE, Meta, Object, ObjectStore, Page, PutMode, StoreError, Written, limit_of,
    resolve,
};
use crate::key::Key;

/// Bodies up to this size go in one request; larger ones in parts of this size.
const PART_BYTES: usize = 8 << 20;

/// Parts on their way at once: with [`PART_BYTES`] this bounds the memory of one upload.
const PARTS_AT_ONCE: usize = 4;

/// A bucket and how to reach it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Config {
    /// Address of the server (`http://127.0.0.1:8333`); `None` for Amazon's own.
    pub endpoint: Option<String>,
    /// Region, `us-east-1` where the server does not care.
    pub region: String,
    /// The bucket. It must exist.
    pub bucket: String,
    /// Folder in the bucket that holds everything; `None` for the whole bucket.
    pub folder: Option<Key>,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { endpoint, region, bucket, folder, .. } = self;
        write!(f, "S3Config({endpoint:?}, {region}, {bucket}, {folder:?})")
    }
}

/// A store in a bucket.
#[derive(Clone)]
pub struct S3 {
    bucket: Arc<AmazonS3>,
    folder: Option<Key>,
    name: String,
}

impl S3 {
    /// A store in the bucket that `config` names. Sends nothing yet.
    ///
    /// # Errors
    /// When the endpoint or the bucket's name is not valid.
    pub fn new(config: S3Config) -> Result<Self, BoxError> {
        // No limit on a whole transfer, which may be large; a limit on each silence within it.
        let client = ClientOptions::new()
            .with_allow_http(true)
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_secs(5))
            .with_read_timeout(Duration::from_secs(20));
        let retry = RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_region(&config.region)
            .with_bucket_name(&config.bucket)
            .with_access_key_id(config.access_key)
            .with_secret_access_key(config.secret_key)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let name = format!("{}/{}", config.endpoint.as_deref().unwrap_or("s3"), config.bucket);
        Ok(Self { bucket: Arc::new(builder.build()?), folder: config.folder, name })
    }

    fn path(&self, key: &Key) -> Result<Path, StoreError> {
        let whole = self.folder.as_ref().map_or_else(|| key.to_string(), |folder| format!("{folder}/{key}"));
        Path::parse(whole).map_err(|e| StoreError::unavailable(key, e))
    }

    /// Our name of an object in the bucket; `None` for what is not ours.
    fn key(&self, path: &Path) -> Option<Key> {
        let whole = path.as_ref();
        let own = match &self.folder {
            Some(folder) => whole.strip_prefix(folder.as_str())?.strip_prefix('/')?,
            None => whole,
        };
        Key::parse(own).ok()
    }

    async fn request(&self, key: &Key, options: GetOptions) -> Result<object_store::GetResult, StoreError> {
        self.bucket.get_opts(&self.path(key)?, options).await.map_err(|e| failed(key, e))
    }

    async fn put_whole(
        &self,
        key: &Key,
        bytes: Vec<Bytes>,
        mode: PutMode,
        attributes: Attributes,
    ) -> Result<Written, StoreError> {
        let mode = match mode {
            PutMode::Overwrite => object_store::PutMode::Overwrite,
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Update(etag) => {
                object_store::PutMode::Update(UpdateVersion { e_tag: Some(quoted(&etag)), version: None })
            }
        };
        let payload = PutPayload::from_iter(bytes);
        let size = payload.content_length() as u64;
        let options = PutOptions { mode, attributes: theirs(attributes), ..PutOptions::default() };
        let result = self.bucket.put_opts(&self.path(key)?, payload, options).await.map_err(|e| failed(key, e))?;
        Ok(Written { etag: unquoted(result.e_tag), size })
    }

    async fn put_parts(
        &self,
        key: &Key,
        first: Vec<Bytes>,
        mut body: Body,
        limit: u64,
        attributes: Attributes,
    ) -> Result<Written, StoreError> {
        let unavailable = |e| failed(key, e);
        let upload = self.bucket.put_multipart_opts(&self.path(key)?, theirs(attributes).into()).await;
        let mut upload = WriteMultipart::new_with_chunk_size(upload.map_err(unavailable)?, PART_BYTES);
        let mut size = 0;
        let mut first = first.into_iter();
        let outcome = loop {
            let chunk = match first.next() {
                Some(chunk) => chunk,
                None => match body.next().await {
                    Some(Ok(chunk)) => chunk,
                    Some(Err(source)) => break Err(StoreError::Body { key: key.clone(), source }),
                    None => break Ok(()),
                },
            };
            size += chunk.len() as u64;
            if size > limit {
                break Err(StoreError::TooLarge { key: key.clone(), limit });
            }
            if let Err(e) = upload.wait_for_capacity(PARTS_AT_ONCE).await {
                break Err(unavailable(e));
            }
            upload.put(chunk);
        };
        if let Err(e) = outcome {
            // The reason for the abort is what the caller must hear, not that the clean-up failed too.
            let _ = upload.abort().await;
            return Err(e);
        }
        let result = upload.finish().await.map_err(unavailable)?;
        Ok(Written { etag: unquoted(result.e_tag), size })
    }

    async fn upload(
        &self,
        key: &Key,
        mut body: Body,
        mode: PutMode,
        attributes: Attributes,
    ) -> Result<Written, StoreError> {
        let limit = limit_of(&mode);
        let one_piece = if mode == PutMode::Overwrite { PART_BYTES as u64 } else { limit };
        let (mut chunks, mut size) = (Vec::new(), 0);
        while size <= one_piece {
            match body.next().await {
                Some(Ok(chunk)) => {
                    size += chunk.len() as u64;
                    chunks.push(chunk);
                }
                Some(Err(source)) => return Err(StoreError::Body { key: key.clone(), source }),
                None => return self.put_whole(key, chunks, mode, attributes).await,
            }
        }
        match mode {
            PutMode::Overwrite => self.put_parts(key, chunks, body, limit, attributes).await,
            PutMode::Create | PutMode::Update(_) => Err(StoreError::TooLarge { key: key.clone(), limit }),
        }
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3({})", self.name)
    }
}

#[async_trait]
impl ObjectStore for S3 {
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object, StoreError> {
        // A server answers a range it cannot satisfy in its own way: look first whether it can be, ours is exact.
        let options = match range {
            None => GetOptions::default(),
            Some(range) => {
                let (meta, _) = self.head(key).await?;
                let range = resolve(key, Some(range), meta.size)?;
                let if_match = Some(quoted(&meta.etag));
                GetOptions { range: Some(GetRange::Bounded(range)), if_match, ..GetOptions::default() }
            }
        };
        let result = self.request(key, options).await?;
        let (meta, attributes) = (ours(key, &result.meta), attributes_of(&result.attributes));
        let range = result.range.clone();
        let body = Body::new(result.into_stream().map_err(Into::into));
        Ok(Object { meta, attributes, range, body })
    }

    async fn head(&self, key: &Key) -> Result<(Meta, Attributes), StoreError> {
        let result = self.request(key, GetOptions { head: true, ..GetOptions::default() }).await?;
        Ok((ours(key, &result.meta), attributes_of(&result.attributes)))
    }

    async fn put(&self, key: &Key, body: Body, mode: PutMode, attributes: Attributes) -> Result<Written, StoreError> {
        attributes.check(key)?;
        let (store, owned) = (self.clone(), key.clone());
        // A task of its own, so that the parts of a large upload are removed even when the caller goes away.
        let upload = async move { store.upload(&owned, body, mode, attributes).await };
        tokio::spawn(upload).await.map_err(|e| StoreError::unavailable(key, e))?
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match self.bucket.delete(&self.path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failed(key, e)),
        }
    }

    async fn list(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        let limit = limit.min(MAX_PAGE);
        let prefix = self.path(folder)?;
        let listing = match after {
            Some(after) => self.bucket.list_with_offset(Some(&prefix), &self.path(after)?),
            None => self.bucket.list(Some(&prefix)),
        };
        let found = listing.try_filter_map(|meta| std::future::ready(Ok(self.key(&meta.location))));
        let mut keys: Vec<Key> = found.take(limit + 1).try_collect().await.map_err(|e| failed(folder, e))?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        Ok(Page { keys, more })
    }
}

fn ours(key: &Key, meta: &ObjectMeta) -> Meta {
    Meta { key: key.clone(), size: meta.size, etag: unquoted(meta.e_tag.clone()), modified: meta.last_modified.into() }
}

fn attributes_of(attributes: &object_store::Attributes) -> Attributes {
    let text = |name| attributes.get(&name).map(|value| value.to_string());
    Attributes { content_type: text(Attribute::ContentType), cache_control: text(Attribute::CacheControl) }
}

fn theirs(attributes: Attributes) -> object_store::Attributes {
    let content_type = attributes.content_type.map(|v| (Attribute::ContentType, v));
    let cache_control = attributes.cache_control.map(|v| (Attribute::CacheControl, v));
    content_type.into_iter().chain(cache_control).collect()
}

/// An entity tag as the server gave it: [`unquoted`] has changed only strong ones.
fn quoted(etag: &str) -> String {
    if etag.starts_with("W/\"") { etag.to_owned() } else { format!("\"{etag}\"") }
}

/// A strong entity tag without its quotes; anything else as it came, so that it goes back into `If-Match` unchanged.
fn unquoted(etag: Option<String>) -> String {
    let etag = etag.unwrap_or_default();
    match etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.to_owned(),
        None => etag,
    }
}

fn failed(key: &Key, error: object_store::Error) -> StoreError {
    use object_store::Error;
    let key = key.clone();
    match error {
        Error::NotFound { .. } => StoreError::NotFound { key },
        Error::AlreadyExists { .. } => StoreError::AlreadyExists { key },
        Error::Precondition { .. } | Error::NotModified { .. } => StoreError::Precondition { key },
        e @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => {
            StoreError::Denied { key, source: e.into() }
        }
        e => StoreError::Unavailable { key, source: e.into() },
    }
}

#[cfg(test)]
mod tests;
