//! Signing, for the command line and tests. A PoP only verifies.

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value};

use super::install_provider;
use super::key::{self, KeyError, Material, check_secret};

/// A token to be made.
#[derive(Clone, Debug)]
pub struct SignRequest {
    /// `HS256`, `RS256`, `PS256`, `ES256`, `EdDSA` or a sibling.
    pub algorithm: String,
    /// The secret or private key.
    pub material: Material,
    /// Put into the header for the verifier to find its key by.
    pub kid: Option<String>,
    /// The claims, as they are: nothing is added and nothing is checked, so that wrong tokens can be made to try.
    pub claims: Map<String, Value>,
}

/// Why a token could not be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The algorithm or the secret is unusable, for the same reasons as when verifying.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The private key is unusable.
    #[error("no private key for {algorithm:?} in this PEM: it needs {needed}")]
    Private {
        /// The algorithm.
        algorithm: Algorithm,
        /// What it needs.
        needed: &'static str,
    },
    /// The form does not go with the algorithm.
    #[error("{algorithm:?} signs with {needed}, not with {given}")]
    Form {
        /// The algorithm.
        algorithm: Algorithm,
        /// What it needs.
        needed: &'static str,
        /// What it got.
        given: &'static str,
    },
}

/// A signed token in the compact serialization, with `typ: JWT`.
///
/// # Errors
/// [`SignError`] when the key does not do for the algorithm.
pub fn sign(request: &SignRequest) -> Result<String, SignError> {
    install_provider();
    let algorithm = key::algorithm(&request.algorithm)?;
    let (key, needed) = match algorithm.family() {
        AlgorithmFamily::Hmac => (secret(algorithm, &request.material)?, "a secret"),
        _ => private_key(algorithm, &request.material)?,
    };
    let mut header = Header::new(algorithm);
    header.kid = request.kid.clone();
    jsonwebtoken::encode(&header, &request.claims, &key).map_err(|_| SignError::Private { algorithm, needed })
}

fn secret(algorithm: Algorithm, material: &Material) -> Result<EncodingKey, SignError> {
    match material {
        Material::Secret(secret) => {
            check_secret(algorithm, secret.as_bytes())?;
            Ok(EncodingKey::from_secret(secret.as_bytes()))
        }
        Material::Jwk(jwk) => {
            let key = key::from_jwk(algorithm, jwk)?;
            let secret = key.try_get_as_bytes().map_err(|_| KeyError::Invalid(algorithm))?;
            Ok(EncodingKey::from_secret(secret))
        }
        Material::Pem(_) => Err(SignError::Form { algorithm, needed: "a secret", given: "PEM" }),
    }
}

fn private_key(algorithm: Algorithm, material: &Material) -> Result<(EncodingKey, &'static str), SignError> {
    let needed = match algorithm {
        Algorithm::ES256 => "a P-256 private key in PKCS#8 (`openssl pkcs8 -topk8 -nocrypt` converts)",
        Algorithm::ES384 => "a P-384 private key in PKCS#8 (`openssl pkcs8 -topk8 -nocrypt` converts)",
        Algorithm::EdDSA => "an unencrypted Ed25519 private key in PKCS#8",
        _ => "an unencrypted RSA private key of 2048 to 8192 bits in PKCS#8 or PKCS#1",
    };
    let pem = match material {
        Material::Pem(pem) => pem.as_bytes(),
        Material::Secret(_) => return Err(SignError::Form { algorithm, needed, given: "a secret" }),
        Material::Jwk(_) => return Err(SignError::Form { algorithm, needed: "a private key in PEM", given: "a JWK" }),
    };
    let key = match algorithm.family() {
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    };
    Ok((key.map_err(|_| SignError::Private { algorithm, needed })?, needed))
}
