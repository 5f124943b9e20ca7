//! What a PoP and a cell say to each other. All that a cell says is parsed into these types before anybody looks at it.

use http::{HeaderMap, HeaderName, HeaderValue};
use isolate::limits::{Limit, Limits};
use isolate::{Cause, Code, CodeCache, Counts, Fault, Program, Timing, by_key};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use super::walls::Walls;
use super::wire::Ended;

/// The first thing that a cell is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Boot<'a> {
    pub(super) isolates: isolate::Config,
    /// The startup snapshot of this PoP; `None` for the build's.
    #[serde(borrow)]
    pub(super) snapshot: Option<&'a Bytes>,
}

/// What a PoP asks of a cell.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order<'a> {
    /// To answer a request. The exchange's number is the invocation's.
    #[serde(borrow)]
    Invoke(Invoke<'a>),
    /// To start a function before anybody asks for it. The answer: `Result<(), Fault>`.
    Warm { version: &'a str },
    /// To try a function, and compile it on the way. The answer: `Result<Option<Compiled>, Fault>`.
    Compile { version: &'a str, paths: Vec<&'a str> },
}

/// A request for a function.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Invoke<'a> {
    pub(super) version: &'a str,
    pub(super) visit: VisitParts<'a>,
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    #[serde(borrow)]
    pub(super) fields: Fields<'a>,
}

/// What a function sees of a request beside its head, which the PoP knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VisitParts<'a> {
    pub(crate) client: std::net::IpAddr,
    pub(crate) secure: bool,
    pub(crate) authority: &'a str,
    pub(crate) request_id: &'a str,
}

/// Header fields.
pub(super) type Fields<'a> = Vec<(&'a str, &'a Bytes)>;

/// What came of an invocation, in a cell's words.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome<'a> {
    pub(super) timing: Timing,
    #[serde(borrow)]
    pub(super) result: Result<Head<'a>, Failed>,
}

/// The head of a response.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head<'a> {
    pub(super) status: u16,
    #[serde(borrow)]
    pub(super) fields: Fields<'a>,
}

/// Why there is none.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) fault: Fault,
    pub(super) pass_through: bool,
    /// The request was taken in, or might have been: it may be sent to the origin instead.
    pub(super) taken: bool,
}

/// V8's code cache.
pub(super) type Compiled<'a> = Vec<(&'a str, &'a Bytes)>;

/// What a cell asks of its PoP, for an invocation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Favour<'a> {
    /// `fetch()`. The answer: `Result<Head, String>`.
    Fetch {
        invocation: u64,
        method: &'a str,
        uri: &'a str,
        #[serde(borrow)]
        fields: Fields<'a>,
        cf: &'a str,
    },
    /// A call of a cache. The answer: `Result<Option<Head>, String>`.
    Cache {
        invocation: u64,
        cache: &'a str,
        uri: &'a str,
        #[serde(borrow)]
        fields: Fields<'a>,
        call: CacheVerb<'a>,
    },
    /// A call of a binding that has to wait. The answer: `Result<String, String>`.
    Call { invocation: u64, binding: &'a str, method: &'a str, argument: &'a str },
}

/// What is done with a cache. The body of a response that is put follows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum CacheVerb<'a> {
    Match,
    #[serde(borrow)]
    Put(Head<'a>),
    Delete,
}

/// What a cell tells its PoP.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Note<'a> {
    Log {
        invocation: u64,
        level: u8,
        text: &'a str,
        /// No request is known to have caused it.
        own: bool,
    },
    Used {
        invocation: u64,
        nanos: u64,
    },
    Broke {
        invocation: u64,
        #[serde(with = "by_key")]
        limit: Limit,
    },
    /// An invocation is over, `waitUntil` included.
    Over {
        invocation: u64,
    },
    Counts(Counts),
    /// The versions of these are not live any more: told to a cell.
    Retire(Vec<&'a str>),
}

/// What a cell asks while its thread waits, over a socket of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Query<'a> {
    /// Not a question: the cell is ready, behind these walls.
    Ready(Walls),
    /// A program. The answer: `Result<Parcel, Fault>`.
    Load { version: &'a str },
    /// `request.cf`. The answer is its text.
    Cf { invocation: u64 },
    /// A call of a binding. The answer: `Result<String, String>`.
    Call { invocation: u64, binding: &'a str, method: &'a str, argument: &'a str },
    /// Not a question: the cell is lost to the function of this version, and ends.
    Lost { version: Option<&'a str>, cause: Cause },
}

/// A program with its code cache.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parcel<'a> {
    version: &'a str,
    main: &'a str,
    modules: Vec<(&'a str, &'a str, Option<&'a str>)>,
    bindings: &'a str,
    limits: Vec<(&'a str, u64)>,
    provisioned: bool,
    #[serde(borrow)]
    cache: Option<Result<Compiled<'a>, isolate::Unsealed>>,
}

impl<'a> Parcel<'a> {
    pub(super) fn new(program: &'a Program, found: &'a isolate::Found) -> Self {
        let modules = program.modules.iter();
        Self {
            version: &program.version,
            main: &program.main,
            modules: modules.map(|(path, code)| (path.as_str(), &*code.source, code.source_map.as_deref())).collect(),
            bindings: &program.bindings,
            limits: program.limits.values().collect(),
            provisioned: program.provisioned,
            cache: found.as_ref().map(|found| found.as_ref().map(compiled).map_err(|why| *why)),
        }
    }

    /// # Errors
    /// When the limits are not those of this build.
    pub(super) fn open(self) -> Result<(Program, isolate::Found), String> {
        let code = |source: &str, map: Option<&str>| Code { source: source.into(), source_map: map.map(Into::into) };
        let modules = self.modules.into_iter().map(|(path, source, map)| (path.to_owned(), code(source, map)));
        let program = Program {
            version: self.version.to_owned(),
            main: self.main.to_owned(),
            modules: modules.collect(),
            bindings: self.bindings.to_owned(),
            // Whoever made the program has cut them: a region gives more than a PoP.
            limits: Limits::in_region(self.limits)?,
            provisioned: self.provisioned,
        };
        Ok((program, self.cache.map(|cache| cache.map(cached))))
    }
}

/// A code cache to be sent.
pub(super) fn compiled(cache: &CodeCache) -> Compiled<'_> {
    cache.modules().map(|(path, data)| (path, Bytes::new(data))).collect()
}

/// A code cache that was sent.
pub(super) fn cached(compiled: Compiled<'_>) -> CodeCache {
    compiled.into_iter().map(|(path, data)| (path, &**data)).collect()
}

/// Header fields to be sent.
pub(super) fn fields(headers: &HeaderMap) -> Fields<'_> {
    headers.iter().map(|(name, value)| (name.as_str(), Bytes::new(value.as_bytes()))).collect()
}

/// Header fields that were sent.
///
/// # Errors
/// What is no field.
pub(super) fn header_map(fields: &Fields<'_>) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::try_with_capacity(fields.len()).unwrap_or_default();
    for (name, value) in fields {
        let (name, value) = (HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value)?);
        headers.try_append(name, value).map_err(http::Error::from)?;
    }
    Ok(headers)
}

/// A message as bytes.
pub(super) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Nothing in these messages can fail to be written to memory.
    postcard::to_allocvec(message).unwrap_or_default()
}

/// A message of bytes.
///
/// # Errors
/// [`Ended::Misconduct`] when it is none, or more than one.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Ended> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(Ended::Misconduct("a message that is none")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Of a peer that keeps to nothing: an answer for all bytes, and none of them takes what it does not bring.
        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), first in 0_u8..8) {
            let bytes = [&[first][..], &bytes].concat();
            let _ = decode::<Query<'_>>(&bytes);
            let _ = decode::<Favour<'_>>(&bytes);
            let _ = decode::<Note<'_>>(&bytes);
            let _ = decode::<Outcome<'_>>(&bytes);
            let _ = decode::<Result<Option<Compiled<'_>>, Fault>>(&bytes);
            let _ = decode::<Result<(), Fault>>(&bytes);
        }

        #[test]
        fn fields_come_as_they_were_sent_and_nothing_else_is_a_field(
            sent in prop::collection::vec(("[a-z-]{1,12}", prop::collection::vec(any::<u8>(), 0..20)), 0..12),
        ) {
            let fields: Vec<_> = sent.iter().map(|(name, value)| (name.as_str(), Bytes::new(value))).collect();
            let bytes = encode(&Head { status: 200, fields });
            let head: Head<'_> = decode(&bytes).unwrap();
            let is_field = |(name, value): &(String, Vec<u8>)| {
                HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_bytes(value).is_ok()
            };
            match header_map(&head.fields) {
                Ok(headers) => prop_assert_eq!(headers.len(), sent.len()),
                Err(_) => prop_assert!(!sent.iter().all(is_field)),
            }
            // Half a message is none, and neither is one with more after it.
            prop_assert!(decode::<Head<'_>>(&[&bytes[..], &[0]].concat()).is_err());
            prop_assert!(decode::<Head<'_>>(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
