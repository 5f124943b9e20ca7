//! Purges over NATS, for fleets: PoPs hear of them at once, also without a connection to the control API.
//!
//! Every origin publishes what its log gains, and once a second how far it is, so that silence means something. A message is
//! authenticated with the admin token (HMAC-SHA256): who can publish on the server can still not purge, nor number purges
//! away. The bucket's log stays the truth: a message says what it follows, and a PoP that has not got that reads the log.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, ServerAddr, Subscriber};
use aws_lc_rs::hmac;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::{Log, PurgePage};

/// Where they are published.
pub const SUBJECT: &str = "skerry.purges";

/// How often an origin tells how far it is.
const BEAT: Duration = Duration::from_secs(1);

/// Largest message; NATS servers take 1 MiB. Of more, only the number is told, and PoPs read the log.
const MAX_BYTES: usize = 512 << 10;

/// Messages that wait to be read; beyond that they are dropped, which a PoP notices as a gap.
const WAITING: usize = 256;

/// Longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

const TAG_BYTES: usize = 32;

/// The URL of a NATS server: `nats://host:4222`, `tls://...`, with user and password where it asks for them.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(ServerAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://"));
        let sound = host.is_some_and(|host| !host.is_empty());
        let address = text.parse().ok().filter(|_| sound);
        address.map(Self).ok_or_else(|| "write the URL of a NATS server: nats://host:4222".to_owned())
    }
}

impl fmt::Debug for Address {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.host(), self.0.port())
    }
}

/// What follows a purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The number that it follows: who is behind it has missed something.
    pub after: u64,
    /// What follows, when it fits a message.
    #[serde(flatten)]
    pub page: PurgePage,
}

impl Push {
    fn seal(mut self, key: &hmac::Key) -> Vec<u8> {
        let mut bytes = self.encode();
        if bytes.len() > MAX_BYTES {
            self.page.batches.clear();
            bytes = self.encode();
        }
        [hmac::sign(key, &bytes).as_ref(), &bytes].concat()
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a page has only string keys")
    }

    /// `None` when it is not of this fleet's origin.
    fn open(bytes: &[u8], key: &hmac::Key) -> Option<Self> {
        let (tag, bytes) = bytes.split_at_checked(TAG_BYTES)?;
        hmac::verify(key, bytes, tag).ok()?;
        serde_json::from_slice(bytes).ok()
    }
}

fn key(token: &str) -> hmac::Key {
    // Not the token itself: what is signed here can be mistaken for nothing else that the token may sign one day.
    let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()), SUBJECT.as_bytes());
    hmac::Key::new(hmac::HMAC_SHA256, own.as_ref())
}

/// Connects as long as it takes, now and whenever the connection is lost.
async fn connect(address: &Address, name: &str) -> Client {
    loop {
        let options = ConnectOptions::new()
            .name(name)
            .retry_on_initial_connect()
            .subscription_capacity(WAITING)
            .reconnect_delay_callback(|attempt| LONGEST_PAUSE.min(Duration::from_millis(50 * attempt as u64)));
        match options.connect(address.0.clone()).await {
            Ok(client) => return client,
            Err(error) => {
                tracing::error!(nats = ?address, %error, "NATS cannot be used; PoPs hear of purges by their polls");
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
        }
    }
}

/// Publishes what the log gains, for ever.
pub(crate) async fn publish(log: &Log, address: &Address, token: &str, name: &str) {
    let (client, key) = (connect(address, name).await, key(token));
    let mut known = log.watch();
    let mut after = known.borrow_and_update().last();
    loop {
        // Where the log has gone, it is watched no more.
        let gone = tokio::select! {
            changed = known.changed() => changed.is_err(),
            () = tokio::time::sleep(BEAT) => false,
        };
        if gone {
            return;
        }
        let page = known.borrow_and_update().after(after);
        // An origin that cannot see the bucket does not know how far the log is.
        if client.connection_state() != State::Connected || !log.is_in_touch() {
            continue;
        }
        let last = page.last;
        if let Err(error) = client.publish(SUBJECT, Push { after, page }.seal(&key).into()).await {
            tracing::warn!(%error, "a purge is not published; PoPs hear of it by their polls");
            continue;
        }
        after = last;
    }
}

/// What is published for a PoP.
#[derive(Debug)]
pub struct Pushes {
    subscriber: Subscriber,
    key: hmac::Key,
    _client: Client,
}

impl Pushes {
    /// Subscribes, as soon as there is a server.
    pub async fn subscribe(address: &Address, token: &str, name: &str) -> Self {
        let client = connect(address, name).await;
        loop {
            match client.subscribe(SUBJECT).await {
                Ok(subscriber) => return Self { subscriber, key: key(token), _client: client },
                Err(error) => {
                    tracing::warn!(%error, "not subscribed to purges; they are heard of by polls");
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
            }
        }
    }

    /// The next one; `None` for a message that is not of this fleet's origin. Waits for ever when there will be none.
    pub async fn next(&mut self) -> Option<Push> {
        match self.subscriber.next().await {
            Some(message) => Push::open(&message.payload, &self.key),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Mode, Scope};
    use super::*;

    fn push(tags: usize) -> Push {
        let scopes = (0..tags).map(|n| Scope::tag(&format!("{n:0>1000}")).unwrap()).collect();
        let batch = Batch { number: 2, at_ms: 1, mode: Mode::Soft, scopes, id: "x".to_owned() };
        Push { after: 1, page: PurgePage { last: 1 + tags as u64, known_after: 0, length: 9, batches: vec![batch] } }
    }

    #[test]
    fn only_what_was_sealed_with_the_token_is_opened() {
        let sealed = push(1).seal(&key("token"));
        assert_eq!(Push::open(&sealed, &key("token")), Some(push(1)));
        assert_eq!(Push::open(&sealed, &key("other")), None);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(Push::open(&forged, &key("token")), None);
            assert_eq!(Push::open(&sealed[..at], &key("token")), None);
        }
    }

    #[test]
    fn of_what_is_too_large_for_a_message_only_the_number_is_told() {
        let sealed = push(600).seal(&key("token"));
        assert!(sealed.len() < 1000);
        let told = Push::open(&sealed, &key("token")).unwrap();
        assert_eq!((told.after, told.page.last, told.page.batches.len()), (1, 601, 0));
    }

    #[test]
    fn an_address_is_the_url_of_a_server_and_its_password_is_not_shown() {
        let address: Address = "nats://user:secret@example.com".parse().unwrap();
        assert_eq!(format!("{address:?}"), "example.com:4222");
        for bad in ["", "example.com", "http://example.com", "nats://"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
