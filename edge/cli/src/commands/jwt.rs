//! `skerry jwt`.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use middleware::jwt::{Material, SignError, SignRequest, sign};
use origin::bundle::{JwtBinding, JwtKey, JwtKeyMaterial};
use serde_json::{Map, Value};

use crate::output::{self, Failure};
use crate::project::Project;
use crate::units;

/// Where the example that verifies tokens is, at or above the working folder.
const EXAMPLE: &str = "functions/auth";

/// The folder of the example, at or above `here`.
pub(crate) fn example(here: &Path) -> Option<PathBuf> {
    here.ancestors().map(|above| above.join(EXAMPLE)).find(|folder| folder.is_dir())
}

/// Largest key file read, in bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Algorithms tried, in this order, for a PEM file without --alg: the first that the key is for.
const PEM_ALGORITHMS: [&str; 4] = ["RS256", "ES256", "ES384", "EdDSA"];

/// Those of [`PEM_ALGORITHMS`] that the label of a PEM file leaves; that of PKCS#8 leaves all.
fn pem_algorithms(pem: &str) -> &'static [&'static str] {
    match pem {
        pem if pem.contains("-----BEGIN RSA PRIVATE KEY-----") => &["RS256"],
        pem if pem.contains("-----BEGIN EC PRIVATE KEY-----") => &["ES256", "ES384"],
        _ => &PEM_ALGORITHMS,
    }
}

/// Make tokens to try verification with
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Jwt {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Sign(Box<Sign>),
}

/// Sign a token and print it alone on standard output
///
/// The project file of --function gives what flags do not: issuer and audience, algorithm and key id of its first key that
/// fits, and without --secret or --key-file its first shared secret too. So what is printed is accepted by that function.
/// No claim is checked on purpose, so that expired, early or foreign tokens can be made: --exp -1h, --nbf 1h, --iss other.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Sign {
    /// Shared secret (HS256, HS384, HS512)
    #[arg(long, conflicts_with = "key_file", allow_hyphen_values = true)]
    secret: Option<String>,
    /// File with an unencrypted private key in PEM (RS*, PS*, ES256, ES384, EdDSA): PKCS#8, or PKCS#1 for RSA
    #[arg(long, value_name = "PEM")]
    key_file: Option<PathBuf>,
    /// Algorithm [default: that of the function's first key that fits, else HS256 with a secret and the first of RS256,
    /// ES256, ES384 and EdDSA that fits with PEM]
    #[arg(long)]
    alg: Option<String>,
    /// Issuer
    #[arg(long)]
    iss: Option<String>,
    /// Audience; several make a list
    #[arg(long)]
    aud: Vec<String>,
    /// Subject
    #[arg(long, default_value = "demo")]
    sub: String,
    /// Expiry from now on, like 1h; -1h is in the past, `none` leaves it out
    #[arg(long, default_value = "1h", allow_hyphen_values = true, value_parser = offset)]
    exp: Offset,
    /// Not valid before this time from now on
    #[arg(long, default_value = "none", allow_hyphen_values = true, value_parser = offset)]
    nbf: Offset,
    /// Key id in the header [default: that of the function's first key that fits]
    #[arg(long)]
    kid: Option<String>,
    /// Further claim, name=value; the value is JSON when it reads as JSON, else text
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    claim: Vec<(String, Value)>,
    /// Folder of the function that shall accept the token [default: functions/auth, when no key is given]
    #[arg(long, value_name = "FOLDER")]
    function: Option<PathBuf>,
}

/// A time relative to now in seconds; `None` is no time at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset(Option<i64>);

fn offset(text: &str) -> Result<Offset, String> {
    if text == "none" {
        return Ok(Offset(None));
    }
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let seconds = i64::try_from(units::duration(rest)?.as_secs()).map_err(|e| e.to_string())?;
    Ok(Offset(Some(sign * seconds)))
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not name=value"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

impl Jwt {
    /// Prints a token.
    ///
    /// # Errors
    /// When there is no key, or it is not one for the algorithm.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Verb::Sign(request) = self.verb;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let token = request.token(&std::env::current_dir()?, now)?;
        output::print(format_args!("{token}\n"))
    }
}

impl Sign {
    fn token(&self, here: &Path, now: Duration) -> Result<String, Failure> {
        let binding = self.binding(here)?;
        let mut claims = self.claims(binding.as_ref(), now);
        claims.extend(self.claim.iter().cloned());
        let keys = binding.map(|binding| binding.keys).unwrap_or_default();
        if let Some(secret) = &self.secret {
            return Ok(self.sign(&keys, &["HS256"], &Material::Secret(secret.clone()), &claims)?);
        }
        if let Some(path) = &self.key_file {
            let pem = read_key(path)?;
            let algorithms = pem_algorithms(&pem);
            let signed = self.sign(&keys, algorithms, &Material::Pem(pem), &claims);
            return signed.map_err(|error| {
                let why = if self.alg.is_none() && algorithms == PEM_ALGORITHMS {
                    format!("there is no unencrypted private key for {} in it", PEM_ALGORITHMS.join(", "))
                } else {
                    error.to_string()
                };
                Failure::Failed(format!("{}: {why}", path.display()))
            });
        }
        let shared = keys.iter().find_map(|key| match &key.material {
            JwtKeyMaterial::Secret(secret) => Some((key, Material::Secret(secret.clone()))),
            JwtKeyMaterial::Jwk(jwk) if jwk.get("kty").is_some_and(|kty| kty == "oct") => {
                Some((key, Material::Jwk(jwk.clone())))
            }
            _ => None,
        });
        let (key, material) = shared.ok_or_else(|| {
            Failure::Failed(
                "that function has no shared secret to sign with: give --key-file with the private key".to_owned(),
            )
        })?;
        Ok(self.sign(std::slice::from_ref(key), &[&key.algorithm], &material, &claims)?)
    }

    /// Signs as the first of the function's `keys` that the material is for, else by the first such of `algorithms`, of
    /// which there is at least one.
    fn sign(
        &self,
        keys: &[JwtKey],
        algorithms: &[&str],
        material: &Material,
        claims: &Map<String, Value>,
    ) -> Result<String, SignError> {
        let by = |algorithm: &str, kid: Option<&String>| {
            sign(&SignRequest {
                algorithm: algorithm.to_owned(),
                material: material.clone(),
                kid: self.kid.as_ref().or(kid).cloned(),
                claims: claims.clone(),
            })
        };
        let wanted = self.alg.as_deref();
        let algorithms = wanted.as_ref().map_or(algorithms, std::slice::from_ref);
        let fitting = keys.iter().filter(|key| wanted.is_none_or(|wanted| wanted == key.algorithm));
        let as_a_key = fitting.map(|key| by(&key.algorithm, key.kid.as_ref()));
        let mut signed = as_a_key.chain(algorithms.iter().map(|algorithm| by(algorithm, None)));
        // When nothing fits, the first of the algorithms says why.
        signed.find_map(Result::ok).map_or_else(|| by(algorithms[0], None), Ok)
    }

    /// The verifier that shall accept the token: that of the function named, or of the example when there is no key.
    fn binding(&self, here: &Path) -> Result<Option<JwtBinding>, Failure> {
        let keyed = self.secret.is_some() || self.key_file.is_some();
        let folder = match &self.function {
            Some(folder) => folder.clone(),
            None if keyed => return Ok(None),
            None => example(here).ok_or_else(|| {
                Failure::Usage(format!(
                    "there is no key: give --secret, --key-file, or --function with a function's folder (no {EXAMPLE} here)"
                ))
            })?,
        };
        let project = Project::load(&folder)?;
        let binding = project.config.jwt.into_iter().next();
        binding
            .map(Some)
            .ok_or_else(|| Failure::Failed(format!("{} verifies no tokens: it has no jwt binding", folder.display())))
    }

    fn claims(&self, binding: Option<&JwtBinding>, now: Duration) -> Map<String, Value> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let mut claims = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value);
            }
        };
        let issuer = self.iss.as_ref().or_else(|| binding?.issuers.first());
        set("iss", issuer.cloned().map(Value::String));
        set("sub", Some(Value::String(self.sub.clone())));
        set(
            "aud",
            match &self.aud[..] {
                [] => binding.and_then(|binding| binding.audiences.first()).cloned().map(Value::String),
                [one] => Some(Value::String(one.clone())),
                several => Some(several.iter().cloned().map(Value::String).collect()),
            },
        );
        set("iat", Some(now.into()));
        set("nbf", self.nbf.0.map(|offset| now.saturating_add(offset).into()));
        set("exp", self.exp.0.map(|offset| now.saturating_add(offset).into()));
        claims
    }
}

fn read_key(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_KEY_BYTES).read_to_string(&mut text));
    read.map_err(|error| Failure::Failed(format!("cannot read the key file {}: {error}", path.display())))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        jwt: Jwt,
    }

    fn token(here: &Path, flags: &[&str]) -> Result<String, Failure> {
        let line =
            Line::try_parse_from(["jwt", "sign"].iter().chain(flags)).map_err(|e| Failure::Usage(e.to_string()))?;
        let Verb::Sign(request) = line.jwt.verb;
        request.token(here, Duration::from_secs(1_000_000))
    }

    fn part(token: &str, index: usize) -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn claims_are_those_of_the_flags() {
        let here = tempfile::tempdir().unwrap();
        let flags = ["--secret", SECRET, "--iss", "me", "--aud", "a", "--aud", "b", "--exp", "-1h", "--nbf", "5m"];
        let more = ["--claim", "admin=true", "--claim", "name=Ann", "--kid", "k1"];
        let token = token(here.path(), &[&flags[..], &more[..]].concat()).unwrap();
        assert_eq!(part(&token, 0)["kid"], "k1");
        let expected = serde_json::json!({
            "iss": "me", "sub": "demo", "aud": ["a", "b"], "iat": 1_000_000, "nbf": 1_000_300, "exp": 996_400,
            "admin": true, "name": "Ann"
        });
        assert_eq!(part(&token, 1), expected);
    }

    #[test]
    fn without_flags_the_example_next_by_gives_key_issuer_and_audience() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(token(root.path(), &[]), Err(Failure::Usage(text)) if text.contains("--secret")));
        let folder = root.path().join(EXAMPLE);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("index.js"), "export default { fetch() { return new Response() } }").unwrap();
        let project = serde_json::json!({
            "name": "auth", "main": "index.js", "compatibility_date": "2026-01-01",
            "jwt": [{
                "binding": "TOKENS", "issuers": ["https://issuer.example"], "audiences": ["edge"],
                "keys": [{ "kid": "demo", "algorithm": "HS256", "secret": SECRET }]
            }]
        });
        std::fs::write(folder.join("wrangler.json"), project.to_string()).unwrap();
        let token = token(&root.path().join("functions"), &[]).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!((&part(&token, 0)["kid"], &part(&token, 0)["alg"]), (&"demo".into(), &"HS256".into()));
        assert_eq!(
            (&part(&token, 1)["iss"], &part(&token, 1)["aud"]),
            (&"https://issuer.example".into(), &"edge".into())
        );
    }

    #[test]
    fn algorithm_and_key_id_are_those_of_the_functions_first_key_that_fits() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("index.js"), "export default { fetch() { return new Response() } }").unwrap();
        let other = "-another secret of as many bytes as HS384 needs, which is 48";
        let project = serde_json::json!({
            "name": "auth", "main": "index.js", "compatibility_date": "2026-01-01",
            "jwt": [{
                "binding": "TOKENS", "issuer": "https://issuer.example", "audience": "edge",
                "keys": [
                    { "kid": "first", "algorithm": "HS384", "secret": SECRET },
                    { "kid": "second", "algorithm": "HS256", "secret": other }
                ]
            }]
        });
        std::fs::write(root.path().join("wrangler.json"), project.to_string()).unwrap();
        let function = root.path().to_str().unwrap();
        let head = |flags: &[&str]| {
            let flags = [&["--function", function], flags].concat();
            let token = token(root.path(), &flags).unwrap_or_else(|error| panic!("{error:?}"));
            (part(&token, 0)["alg"].clone(), part(&token, 0)["kid"].clone())
        };
        assert_eq!(head(&[]), ("HS384".into(), "first".into()));
        assert_eq!(head(&["--secret", other]), ("HS384".into(), "first".into()));
        assert_eq!(head(&["--secret", other, "--alg", "HS256"]), ("HS256".into(), "second".into()));
        assert_eq!(head(&["--secret", other, "--kid", "k"]), ("HS384".into(), "k".into()));
        let short = "an own secret of thirty-two bytes";
        assert_eq!(head(&["--secret", short]), ("HS256".into(), "second".into()), "too short for HS384");
    }

    #[test]
    fn a_key_in_another_form_is_an_error_that_says_how_to_convert_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sec1.pem");
        std::fs::write(&path, "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n").unwrap();
        let Err(Failure::Failed(text)) = token(root.path(), &["--key-file", path.to_str().unwrap()]) else {
            panic!("signed with half a key")
        };
        assert!(text.contains("ES256") && text.contains("openssl pkcs8 -topk8") && !text.contains("RSA"), "{text}");
    }

    #[test]
    fn a_key_that_is_none_is_an_error_that_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("key.pem");
        std::fs::write(&path, "no key").unwrap();
        let flags = ["--key-file", path.to_str().unwrap()];
        assert!(matches!(token(root.path(), &flags), Err(Failure::Failed(text)) if text.contains("key.pem")));
        assert!(token(root.path(), &["--secret", "short", "--alg", "nonsense"]).is_err());
    }
}
