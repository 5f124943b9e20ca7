//! How a command finds the admin API and its token: flags, then the environment, then the running fleet's `fleet.json`.
//! `--state` is a flag as good as `--admin-url`: with it the environment has no say.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use origin::client::Control;
use origin::server::MAX_TOKEN_BYTES;

use crate::fleet::{self, Fleet, FleetError};

/// Environment variable with the URL of the admin API.
const URL_VARIABLE: &str = "SKERRY_ADMIN_URL";

/// Environment variable with the token itself.
pub(crate) const TOKEN_VARIABLE: &str = "SKERRY_ADMIN_TOKEN";

/// Why there is no access to the admin API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// No fleet, and no flags instead.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The token file cannot be read.
    #[error("cannot read the token file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something, but it is no token.
    #[error("{place} holds no token: 1 to {MAX_TOKEN_BYTES} visible ASCII characters are expected")]
    NotAToken {
        /// The file or variable.
        place: String,
    },
    /// Nobody said which token.
    #[error("no token: give --token-file, or set {TOKEN_VARIABLE}")]
    NoToken,
    /// The URL is none.
    #[error("{0:?} is not the URL of an admin API: write http://host:port")]
    Url(String),
    /// The file cannot be written.
    #[error("cannot write the token file {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The token of a process that needs one.
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenArgs {
    /// File with the token of the admin API. Without it the token is that of the variable SKERRY_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// The token.
    ///
    /// # Errors
    /// When there is none or it is no token.
    pub(crate) fn read(&self) -> Result<String, AccessError> {
        self.given(variable(TOKEN_VARIABLE))?.ok_or(AccessError::NoToken)
    }

    /// The token of the flag, else of the `variable`.
    fn given(&self, variable: Option<String>) -> Result<Option<String>, AccessError> {
        match (&self.token_file, variable) {
            (Some(path), _) => read_token(path).map(Some),
            (None, Some(value)) => check(&value, TOKEN_VARIABLE).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Which admin API a command talks to.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccessArgs {
    /// URL of the admin API. Without it and --state, that of the variable SKERRY_ADMIN_URL [default: that of the running
    /// fleet]
    #[arg(long, value_name = "URL", conflicts_with = "state")]
    admin_url: Option<String>,
    #[command(flatten)]
    token: TokenArgs,
    /// State folder of the fleet [default: the nearest .skerry at or above the working folder]
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
}

/// Where the admin API is and what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// Its URL.
    pub url: String,
    /// Its token.
    pub token: String,
    /// The fleet, when the URL is that of one.
    pub fleet: Option<Fleet>,
}

impl Access {
    /// A client of it.
    ///
    /// # Errors
    /// When the URL is none.
    pub(crate) fn control(&self) -> Result<Control, AccessError> {
        let url = self.url.parse().map_err(|_| AccessError::Url(self.url.clone()))?;
        Ok(Control::new(url, &self.token))
    }
}

impl AccessArgs {
    /// Finds the admin API.
    ///
    /// # Errors
    /// When neither flags nor environment nor a fleet name it, or its token is missing.
    pub(crate) fn find(&self, from: &Path) -> Result<Access, AccessError> {
        self.find_with(from, variable)
    }

    fn find_with(&self, from: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Access, AccessError> {
        let variable = |name: &str| variable(name).filter(|_| self.state.is_none());
        let given = self.token.given(variable(TOKEN_VARIABLE))?;
        if let Some(url) = self.admin_url.clone().or_else(|| variable(URL_VARIABLE)) {
            return Ok(Access { url, token: given.ok_or(AccessError::NoToken)?, fleet: None });
        }
        let fleet = Fleet::find(self.state.as_deref(), from)?;
        let token = given.map_or_else(|| read_token(&fleet.token_file), Ok)?;
        Ok(Access { url: format!("http://{}", fleet.admin), token, fleet: Some(fleet) })
    }
}

/// What the environment says, unless it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

/// Reads a token file.
///
/// # Errors
/// [`AccessError`].
pub(crate) fn read_token(path: &Path) -> Result<String, AccessError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES as u64 + 2).read_to_string(&mut text));
    read.map_err(|source| AccessError::Unreadable { path: path.to_owned(), source })?;
    check(&text, &path.display().to_string())
}

fn check(text: &str, place: &str) -> Result<String, AccessError> {
    let token = text.trim();
    let sound = (1..=MAX_TOKEN_BYTES).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if sound { Ok(token.to_owned()) } else { Err(AccessError::NotAToken { place: place.to_owned() }) }
}

/// The token of a state folder: the one it has, else `fresh`, which is written for the owner's eyes only.
///
/// # Errors
/// When there is one that cannot be used, or none can be written.
pub(crate) fn keep_token(path: &Path, fresh: impl FnOnce() -> [u8; 32]) -> Result<String, AccessError> {
    match read_token(path) {
        Err(AccessError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let token = hex::encode(fresh());
            fleet::write_whole(path, format!("{token}\n").as_bytes())
                .map_err(|source| AccessError::Unwritable { path: path.to_owned(), source })?;
            Ok(token)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("admin.token");
        let token = keep_token(&path, || [7; 32]).unwrap();
        assert_eq!(token, "07".repeat(32));
        assert_eq!(keep_token(&path, || [8; 32]).unwrap(), token);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("admin.token");
        for bad in ["", "\n", "two words", "ü", &"x".repeat(5000)] {
            std::fs::write(&path, bad).unwrap();
            let error = keep_token(&path, || [7; 32]).unwrap_err();
            assert!(matches!(error, AccessError::NotAToken { .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn flags_win_over_the_fleet_and_a_url_needs_its_token() {
        let root = tempfile::tempdir().unwrap();
        let fleet = crate::fleet::tests::example(root.path());
        fleet.write().unwrap();
        keep_token(&fleet.token_file, || [7; 32]).unwrap();
        let own = root.path().join("own");
        std::fs::write(&own, "mine").unwrap();
        let elsewhere = |name: &str| Some(if name == URL_VARIABLE { "http://elsewhere" } else { "other" }.to_owned());
        let access = |admin_url: Option<&str>, token_file: Option<&Path>, state: Option<&Path>| {
            let args = AccessArgs {
                admin_url: admin_url.map(str::to_owned),
                token: TokenArgs { token_file: token_file.map(Path::to_owned) },
                state: state.map(Path::to_owned),
            };
            args.find_with(root.path(), elsewhere)
        };
        let state = Some(root.path());
        let found = access(None, None, state).unwrap();
        assert_eq!((found.url.as_str(), found.token.len()), ("http://127.0.0.1:1", 64), "--state wins over variables");
        assert_eq!(access(None, Some(&own), state).unwrap().token, "mine");
        let found = access(None, None, None).unwrap();
        assert_eq!((found.url.as_str(), found.token.as_str()), ("http://elsewhere", "other"));
        let found = access(Some("http://x"), Some(&own), None).unwrap();
        assert_eq!((found.url.as_str(), found.token.as_str()), ("http://x", "mine"));
        assert!(access(None, Some(Path::new("absent")), state).unwrap_err().to_string().contains("absent"));
    }
}
