//! What makes a shared secret unfit.

use jsonwebtoken::Algorithm;

use super::KeyError;

/// How public keys look in their usual encodings. As an HMAC secret each would let anybody who has read it sign.
const PUBLIC_MARKS: [&str; 5] = ["-----BEGIN ", "ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-", "\"kty\""];

/// Whether `secret` may be the key of this HMAC algorithm.
pub(in crate::jwt) fn check_secret(algorithm: Algorithm, secret: &[u8]) -> Result<(), KeyError> {
    let text = String::from_utf8_lossy(secret);
    if PUBLIC_MARKS.iter().any(|mark| text.contains(mark)) {
        return Err(KeyError::SecretIsPublic(algorithm));
    }
    let needed = match algorithm {
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 32,
    };
    let bytes = secret.len();
    if bytes < needed { Err(KeyError::SecretShort { algorithm, bytes, needed }) } else { Ok(()) }
}
