//! JSON Web Tokens to be verified, and the key that verifies them in each platform's form.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use origin::bundle::{JwtBinding, JwtKey, JwtKeyMaterial};
use serde_json::{Value, json};

use crate::Failure;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "bench";

/// Whom tokens are about.
pub(crate) const SUBJECT: &str = "visitor-1";

/// Bits of an RSA key as most identity providers have it.
const RSA: KeySize = KeySize::Rsa2048;

/// What signs.
pub(crate) enum Signer {
    /// HS256.
    Hmac([u8; 32]),
    /// RS256.
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    /// A new HS256 secret.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn hs256() -> Result<Self, Failure> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| "no random bytes for a secret")?;
        Ok(Self::Hmac(secret))
    }

    /// A new RS256 key.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn rs256() -> Result<Self, Failure> {
        Ok(Self::Rsa(Box::new(RsaKeyPair::generate(RSA).map_err(|_| "no RSA key could be made")?)))
    }

    /// Its name in a token.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Hmac(_) => "HS256",
            Self::Rsa(_) => "RS256",
        }
    }

    /// A token that is good for an hour.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(crate) fn token(&self) -> Result<String, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let expires = (now + Duration::from_secs(3600)).as_secs();
        let head = json!({ "alg": self.algorithm(), "typ": "JWT" });
        let claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now.as_secs(), "exp": expires });
        let text = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = match self {
            Self::Hmac(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes()).as_ref().to_vec()
            }
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
                signed.map_err(|_| "the token could not be signed")?;
                signature
            }
        };
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The same token, with one bit of its signature turned.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub(crate) fn forged(&self) -> Result<String, Failure> {
        let token = self.token()?;
        let (text, signature) = token.rsplit_once('.').ok_or("a token has three parts")?;
        let mut signature = URL_SAFE_NO_PAD.decode(signature)?;
        signature[0] ^= 1;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The key that verifies.
    fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Hmac(secret) => json!({ "kty": "oct", "alg": "HS256", "k": encode(secret) }),
            Self::Rsa(key) => {
                let public: &signature::RsaSubjectPublicKey = key.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                let [n, e] = [n, e].map(|number| encode(number.big_endian_without_leading_zero()));
                json!({ "kty": "RSA", "alg": "RS256", "n": n, "e": e })
            }
        }
    }

    /// The verifier `AUTH` of a function.
    pub(crate) fn binding(&self) -> JwtBinding {
        let material = JwtKeyMaterial::Jwk(self.jwk());
        JwtBinding {
            name: "AUTH".to_owned(),
            issuers: vec![ISSUER.to_owned()],
            audiences: vec![AUDIENCE.to_owned()],
            keys: vec![JwtKey { kid: None, algorithm: self.algorithm().to_owned(), material }],
            jwks_url: None,
            jwks_algorithms: Vec::new(),
            leeway_seconds: 0,
        }
    }

    /// A function that verifies with WebCrypto and answers with the subject, or 401.
    pub(crate) fn webcrypto(&self) -> String {
        let algorithm = match self {
            Self::Hmac(_) => json!({ "name": "HMAC", "hash": "SHA-256" }),
            Self::Rsa(_) => json!({ "name": "RSASSA-PKCS1-v1_5", "hash": "SHA-256" }),
        };
        let text = WEBCRYPTO.replace("@JWK@", &self.jwk().to_string()).replace("@ALGORITHM@", &algorithm.to_string());
        text.replace("@ALG@", self.algorithm()).replace("@ISSUER@", ISSUER).replace("@AUDIENCE@", AUDIENCE)
    }
}

/// The function that asks its binding, and answers as that of [`Signer::webcrypto`].
pub(crate) const WITH_BINDING: &str = "export default {
  async fetch(request, env) {
    const token = await env.AUTH.verify(request);
    return token.ok ? new Response(`${token.subject}\\n`) : token.response;
  },
};
";

/// The key is imported once. The newest way to decode base64 is the fastest in both platforms.
const WEBCRYPTO: &str = r#"
const encoder = new TextEncoder();
const decoder = new TextDecoder();
const decode = (text) => Uint8Array.fromBase64(text, { alphabet: "base64url" });
const json = (text) => JSON.parse(decoder.decode(decode(text)));
let key;
async function verify(request) {
  const [scheme, token] = (request.headers.get("authorization") ?? "").split(" ");
  if (scheme !== "Bearer" || !token) return null;
  const parts = token.split(".");
  if (parts.length !== 3) return null;
  const [head, payload, signature] = parts;
  if (json(head).alg !== "@ALG@") return null;
  key ??= await crypto.subtle.importKey("jwk", @JWK@, @ALGORITHM@, false, ["verify"]);
  const text = encoder.encode(`${head}.${payload}`);
  if (!await crypto.subtle.verify(@ALGORITHM@, key, decode(signature), text)) return null;
  const claims = json(payload);
  const sound = claims.iss === "@ISSUER@" && claims.aud === "@AUDIENCE@" && claims.exp * 1000 > Date.now();
  return sound ? claims : null;
}
export default {
  async fetch(request) {
    const claims = await verify(request);
    if (!claims) return new Response("401\n", { status: 401, headers: { "www-authenticate": "Bearer" } });
    return new Response(`${claims.sub}\n`);
  },
};
"#;
