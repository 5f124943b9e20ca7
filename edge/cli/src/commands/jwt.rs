//! `skerry jwt`.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use middleware::jwt::{Material, SignError, SignRequest, sign};
use origin::bundle::{JwtBinding, JwtKeyMaterial};
use serde_json::{Map, Value};

use crate::output::{self, Failure};
use crate::project::Project;
use crate::units;

/// Where the example that verifies tokens is, at or above the working folder.
const EXAMPLE: &str = "functions/auth";

/// Largest key file read, in bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Algorithms tried, in this order, for a PEM file without --alg: the first that the key is for.
const PEM_ALGORITHMS: [&str; 4] = ["RS256", "ES256", "ES384", "EdDSA"];

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
/// Without --secret or --key-file, the first shared secret in the project file of --function signs, and its issuer and
/// audience are the token's: what it prints is accepted by that function. Nothing is checked on purpose, so that expired,
/// early or foreign tokens can be made too: --exp -1h, --nbf 1h, --iss somebody-else.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Sign {
    /// Shared secret (HS256, HS384, HS512)
    #[arg(long, conflicts_with = "key_file")]
    secret: Option<String>,
    /// File with a private key in PEM (RS*, PS*, ES256, ES384, EdDSA)
    #[arg(long, value_name = "PEM")]
    key_file: Option<PathBuf>,
    /// Algorithm [default: HS256 with a secret, the key's own with PEM, the project's with --function]
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
    /// Key id in the header
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
        let request = |algorithm: &str, material, kid| {
            let kid = self.kid.clone().or(kid);
            SignRequest {
                algorithm: self.alg.as_deref().unwrap_or(algorithm).to_owned(),
                material,
                kid,
                claims: claims.clone(),
            }
        };
        if let Some(secret) = &self.secret {
            return Ok(sign(&request("HS256", Material::Secret(secret.clone()), None))?);
        }
        if let Some(path) = &self.key_file {
            let pem = read_key(path)?;
            let algorithms: &[&str] = if self.alg.is_some() { &PEM_ALGORITHMS[..1] } else { &PEM_ALGORITHMS };
            let mut refused: Option<SignError> = None;
            for algorithm in algorithms {
                match sign(&request(algorithm, Material::Pem(pem.clone()), None)) {
                    Ok(token) => return Ok(token),
                    Err(error) => refused = Some(refused.unwrap_or(error)),
                }
            }
            let why = refused.map(|error| error.to_string()).unwrap_or_default();
            return Err(Failure::Failed(format!("{}: {why}", path.display())));
        }
        let key = binding.iter().flat_map(|binding| &binding.keys).find_map(|key| match &key.material {
            JwtKeyMaterial::Secret(secret) => Some((key, Material::Secret(secret.clone()))),
            JwtKeyMaterial::Jwk(jwk) if jwk.get("kty").is_some_and(|kty| kty == "oct") => {
                Some((key, Material::Jwk(jwk.clone())))
            }
            _ => None,
        });
        let (key, material) = key.ok_or_else(|| {
            Failure::Failed(
                "that function has no shared secret to sign with: give --key-file with the private key".to_owned(),
            )
        })?;
        Ok(sign(&request(&key.algorithm, material, key.kid.clone()))?)
    }

    /// The verifier that shall accept the token: that of the function named, or of the example when there is no key.
    fn binding(&self, here: &Path) -> Result<Option<JwtBinding>, Failure> {
        let keyed = self.secret.is_some() || self.key_file.is_some();
        let folder = match &self.function {
            Some(folder) => folder.clone(),
            None if keyed => return Ok(None),
            None => here.ancestors().map(|above| above.join(EXAMPLE)).find(|folder| folder.is_dir()).ok_or_else(|| {
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
    fn a_key_that_is_none_is_an_error_that_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("key.pem");
        std::fs::write(&path, "no key").unwrap();
        let flags = ["--key-file", path.to_str().unwrap()];
        assert!(matches!(token(root.path(), &flags), Err(Failure::Failed(text)) if text.contains("key.pem")));
        assert!(token(root.path(), &["--secret", "short", "--alg", "nonsense"]).is_err());
    }
}
