//! `skerry origin`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use origin::purge::push::Address;
use origin::server::{Config, StoreConfig};
use origin::store::S3Config;

use crate::access::TokenArgs;
use crate::output::Failure;
use crate::signals::{self, Input};
use crate::up::plan;

/// Run the origin: objects, deployments, and the control API that PoPs follow
///
/// Serves objects on one address and the control and admin API on another, until SIGTERM or SIGINT; requests under way
/// are finished first. Never make the admin address public.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Origin {
    /// Address that PoPs fetch objects from; a port alone is one of 127.0.0.1
    #[arg(long, default_value = "127.0.0.1:8090", value_parser = plan::address)]
    listen: SocketAddr,
    /// Address of the control and admin API
    #[arg(long, default_value = "127.0.0.1:8091", value_parser = plan::address)]
    admin: SocketAddr,
    #[command(flatten)]
    token: TokenArgs,
    /// Where objects are: a folder, made when there is none; `memory`, gone with the process; or s3://bucket/prefix,
    /// with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL from the environment
    #[arg(long, env = "SKERRY_STORE")]
    store: String,
    /// A NATS server on which purges are published, too: nats://host:4222. PoPs with the same hear of them at once
    #[arg(long, env = "SKERRY_NATS", hide_env_values = true, value_name = "URL")]
    nats: Option<Address>,
    /// End when standard input ends, as a child of a supervisor does
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

impl Origin {
    /// Serves until it is asked to end.
    ///
    /// # Errors
    /// When it cannot start.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let _log = crate::log::start();
        let input = if self.exit_with_parent { Input::Parent } else { Input::Ignored };
        let store = store(&self.store, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
        let config = Config { nats: self.nats, ..Config::new(self.listen, self.admin, self.token.read()?, store) };
        super::runtime()?.block_on(async { origin::server::run(config, |_| {}, signals::shutdown(input)).await })?;
        Ok(())
    }
}

/// Reads what `--store` says.
fn store(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<StoreConfig, Failure> {
    if text == "memory" {
        return Ok(StoreConfig::Memory);
    }
    let Some(rest) = text.strip_prefix("s3://") else {
        if text.contains("://") {
            return Err(Failure::Usage(format!("--store {text}: write a folder, `memory`, or s3://bucket/prefix")));
        }
        return Ok(StoreConfig::Embedded(PathBuf::from(text)));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if bucket.is_empty() {
        return Err(Failure::Usage(format!("--store {text} names no bucket: write s3://bucket/prefix")));
    }
    let folder = match prefix {
        "" => None,
        prefix => {
            let key = origin::key::Key::parse(prefix);
            Some(key.map_err(|error| Failure::Usage(format!("--store {text}: the prefix is not a key: {error}")))?)
        }
    };
    let required = |name: &str| {
        variable(name).ok_or_else(|| Failure::Usage(format!("--store {text} needs the environment variable {name}")))
    };
    Ok(StoreConfig::S3(S3Config {
        endpoint: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
        region: variable("AWS_REGION")
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| "us-east-1".to_owned()),
        bucket: bucket.to_owned(),
        folder,
        access_key: required("AWS_ACCESS_KEY_ID")?,
        secret_key: required("AWS_SECRET_ACCESS_KEY")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_folder_memory_or_a_bucket() {
        let none = |_: &str| None;
        assert!(matches!(store("x/y", none), Ok(StoreConfig::Embedded(path)) if path == *"x/y"));
        assert!(matches!(store("memory", none), Ok(StoreConfig::Memory)));
        assert!(matches!(store("gs://b", none), Err(Failure::Usage(_))));
        assert!(matches!(store("s3:///p", none), Err(Failure::Usage(text)) if text.contains("no bucket")));
        assert!(matches!(store("s3://b", none), Err(Failure::Usage(text)) if text.contains("AWS_ACCESS_KEY_ID")));
        let all = |name: &str| Some(name.to_lowercase());
        let Ok(StoreConfig::S3(config)) = store("s3://b/p/q/", all) else { panic!("not a bucket") };
        assert_eq!((config.bucket.as_str(), config.access_key.as_str()), ("b", "aws_access_key_id"));
        assert_eq!(config.folder.map(|folder| folder.to_string()).as_deref(), Some("p/q"));
    }
}
