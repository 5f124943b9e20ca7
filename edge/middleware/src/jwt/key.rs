//! Keys that verify, checked when they are configured rather than when the first token comes.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519};
use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};

use super::token::Token;

mod jwk;
mod secret;

pub(super) use self::jwk::{fitting_algorithms, from_jwk, kid_of};
pub(super) use self::secret::check_secret;

/// The algorithms there are.
const ALGORITHMS: &str = "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";

/// One key of a configuration, as configured.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id. A token that names a key is verified by the keys of that name and by those without one.
    pub kid: Option<String>,
    /// The one algorithm it is for: `HS256`, `RS256`, `PS256`, `ES256`, `EdDSA` or a sibling.
    pub algorithm: String,
    /// The key itself.
    pub material: Material,
}

/// The form a key comes in.
#[derive(Clone)]
pub enum Material {
    /// A shared secret, for HS*, whose bytes are the key. At least as long as the hash (RFC 7518, 3.2).
    Secret(String),
    /// PEM. To verify: a public key (SPKI or PKCS#1) or a certificate. To sign: a private key (PKCS#8, RSA also PKCS#1).
    Pem(String),
    /// A JSON Web Key (RFC 7517). To sign: only a symmetric one.
    Jwk(serde_json::Value),
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// `none`, in any spelling.
    #[error("algorithm `none` accepts every token there is: use one of {ALGORITHMS}")]
    AlgorithmNone,
    /// Not an algorithm we know.
    #[error("unknown algorithm `{0}`: use one of {ALGORITHMS}")]
    AlgorithmUnknown(String),
    /// A public key as HMAC secret: everybody could sign.
    #[error(
        "the secret for {0:?} looks like a public key or certificate, which anybody may know: use a random secret, or an RS, PS, ES or EdDSA algorithm with this key"
    )]
    SecretIsPublic(Algorithm),
    /// Shorter than the hash.
    #[error("the secret for {algorithm:?} has {bytes} bytes: it needs at least {needed} (RFC 7518, 3.2)")]
    SecretShort {
        /// The key's algorithm.
        algorithm: Algorithm,
        /// Bytes it has.
        bytes: usize,
        /// Bytes it needs.
        needed: usize,
    },
    /// The form does not go with the algorithm.
    #[error("{algorithm:?} needs {needed}, not {given}")]
    Form {
        /// The key's algorithm.
        algorithm: Algorithm,
        /// What it needs.
        needed: &'static str,
        /// What it got.
        given: &'static str,
    },
    /// A private key where a public one is enough.
    #[error(
        "this is a private key: verifying needs only the public one, so keep the private one where tokens are signed"
    )]
    Private,
    /// PEM that is not a key for the algorithm.
    #[error("no key for {algorithm:?} in this PEM: it needs {needed}")]
    Pem {
        /// The key's algorithm.
        algorithm: Algorithm,
        /// What it needs.
        needed: &'static str,
    },
    /// RSA keys outside this range are broken or a denial of service.
    #[error("the RSA key has {0} bits: use 2048 to 8192")]
    RsaSize(usize),
    /// The numbers are no key: not a point on the curve, not an RSA modulus.
    #[error("the key is no valid public key for {0:?}")]
    Invalid(Algorithm),
    /// A JWK member is missing or wrong.
    #[error("the JWK's `{member}` {reason}")]
    Jwk {
        /// Its name.
        member: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// A key ready to verify with.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    pub(super) kid: Option<String>,
    /// One for a configured key. For one of a key set that does not name its own: all configured ones that fit it.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// The algorithm of this name. `Ed25519` (RFC 9864) is the newer name of what `EdDSA` means here.
pub(super) fn algorithm(name: &str) -> Result<Algorithm, KeyError> {
    if name.eq_ignore_ascii_case("none") {
        return Err(KeyError::AlgorithmNone);
    }
    let name = if name == "Ed25519" { "EdDSA" } else { name };
    name.parse().map_err(|_| KeyError::AlgorithmUnknown(name.chars().take(40).collect()))
}

// === impl VerifyingKey ===

impl VerifyingKey {
    /// Checks a key of the configuration.
    pub(super) fn configured(key: Key) -> Result<Self, KeyError> {
        let algorithm = algorithm(&key.algorithm)?;
        let (kid, key) = match key.material {
            Material::Secret(secret) => (key.kid, from_secret(algorithm, secret.as_bytes())?),
            Material::Pem(pem) => (key.kid, from_pem(algorithm, &pem)?),
            Material::Jwk(jwk) => (key.kid.or_else(|| kid_of(&jwk)), from_jwk(algorithm, &jwk)?),
        };
        Ok(Self { kid, algorithms: vec![algorithm], key })
    }

    /// Whether a token with this `kid` may be for this key: unless both have one and they differ.
    pub(super) fn answers_to(&self, kid: Option<&str>) -> bool {
        self.kid.as_deref().zip(kid).is_none_or(|(own, given)| own == given)
    }

    /// Whether this key made the token's signature. The token's algorithm must be among this key's.
    pub(super) fn verifies(&self, token: &Token<'_>) -> bool {
        // An error is a signature that is not base64url.
        let (message, algorithm) = (token.signed.as_bytes(), token.algorithm);
        jsonwebtoken::crypto::verify(token.signature, message, &self.key, algorithm).unwrap_or(false)
    }
}

fn from_secret(algorithm: Algorithm, secret: &[u8]) -> Result<DecodingKey, KeyError> {
    if algorithm.family() != AlgorithmFamily::Hmac {
        return Err(KeyError::Form { algorithm, needed: "a public key", given: "a secret" });
    }
    check_secret(algorithm, secret)?;
    Ok(DecodingKey::from_secret(secret))
}

fn from_pem(algorithm: Algorithm, pem: &str) -> Result<DecodingKey, KeyError> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(KeyError::Private);
    }
    let (key, needed) = match algorithm.family() {
        AlgorithmFamily::Hmac => return Err(KeyError::Form { algorithm, needed: "a secret", given: "PEM" }),
        AlgorithmFamily::Rsa => (DecodingKey::from_rsa_pem(pem.as_bytes()), "an RSA public key"),
        AlgorithmFamily::Ec => (DecodingKey::from_ec_pem(pem.as_bytes()), "an elliptic curve public key"),
        AlgorithmFamily::Ed => (DecodingKey::from_ed_pem(pem.as_bytes()), "an Ed25519 public key"),
    };
    let key = key.map_err(|_| KeyError::Pem { algorithm, needed })?;
    check_public(algorithm, &key)?;
    Ok(key)
}

/// Whether the numbers are a public key for this algorithm, which parsing alone does not tell.
fn check_public(algorithm: Algorithm, key: &DecodingKey) -> Result<(), KeyError> {
    let point = |kind: &'static dyn VerificationAlgorithm| {
        let bytes = key.try_get_as_bytes().map_err(|_| KeyError::Invalid(algorithm))?;
        ParsedPublicKey::new(kind, bytes).map(drop).map_err(|_| KeyError::Invalid(algorithm))
    };
    match algorithm {
        Algorithm::ES256 => point(&ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => point(&ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => point(&ED25519),
        _ => check_rsa(algorithm, key),
    }
}

fn check_rsa(algorithm: Algorithm, key: &DecodingKey) -> Result<(), KeyError> {
    let (n, e) = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => (n.clone(), e.clone()),
        DecodingKeyKind::SecretOrDer(der) => (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der)
            .map_err(|_| KeyError::Invalid(algorithm))?,
    };
    let zeros = n.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = (n.len() * 8).saturating_sub(zeros);
    if !(2048..=8192).contains(&bits) {
        return Err(KeyError::RsaSize(bits));
    }
    RsaPublicKeyComponents { n, e }.as_der().map(drop).map_err(|_| KeyError::Invalid(algorithm))
}

// === impl Material ===

/// Shows the form and never the key.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(..)",
            Self::Pem(_) => "Pem(..)",
            Self::Jwk(_) => "Jwk(..)",
        })
    }
}
