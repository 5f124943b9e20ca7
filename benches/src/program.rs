//! Programs that are measured, and where they are found.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// A program on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// What it is called in tables.
    pub(crate) name: &'static str,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says its version is.
    pub(crate) version: String,
}

/// A program that may be on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// What it is called, in tables and on `PATH`.
    pub(crate) name: &'static str,
    /// Environment variable that says where it is, before anything else.
    pub(crate) variable: &'static str,
    /// Where npm puts it, below [`node_modules`]: the binary of the platform's own package, since that of the main package
    /// may be a script.
    pub(crate) packages: &'static [&'static str],
    /// Argument that makes it say its version.
    pub(crate) version: &'static str,
    /// How to get it.
    pub(crate) install: &'static str,
}

/// Where `make peers` installs what comes from npm, or another folder that `BENCH_NPM` names.
pub(crate) fn node_modules() -> PathBuf {
    let tools = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/npm");
    std::env::var_os("BENCH_NPM").map_or_else(tools, PathBuf::from).join("node_modules")
}

impl Program {
    /// The release binary of the platform: the one that `SKERRY` names, or the one beside this one.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn skerry() -> Result<Self, Failure> {
        let own = std::env::current_exe()?;
        let beside = own.with_file_name("skerry");
        let path = std::env::var_os("SKERRY").map_or(beside, PathBuf::from);
        if !path.is_file() {
            let build = "build it with `cargo build --release --package cli`, or set SKERRY to its path";
            return Err(format!("{} is not there: {build}", path.display()).into());
        }
        let version = version(&path, "--version");
        Ok(Self { name: "skerry", path, version })
    }

    /// Whether this release of the platform has an option of `skerry pop`: older ones can be measured, too.
    pub(crate) fn takes(&self, option: &str) -> bool {
        let help = Command::new(&self.path).args(["pop", "--help"]).stdin(Stdio::null()).output();
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).split_ascii_whitespace().any(|word| word == option))
    }
}

impl Peer {
    /// Looks for it.
    pub(crate) fn find(&self) -> Option<Program> {
        let path = match std::env::var_os(self.variable) {
            Some(path) => PathBuf::from(path),
            None => self.candidates().into_iter().find(|path| path.is_file())?,
        };
        path.is_file().then(|| Program { name: self.name, version: version(&path, self.version), path })
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let placed = self.packages.iter().map(|package| node_modules().join(package));
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian keeps servers where the PATH of ordinary users does not lead.
        let folders = std::env::split_paths(&path).chain(["/usr/local/sbin".into(), "/usr/sbin".into()]);
        placed.chain(folders.map(|folder| folder.join(self.name))).collect()
    }
}

/// The first thing like `1.2.3` or `2026-11-17` in what a program says about itself.
fn version(path: &Path, argument: &str) -> String {
    let output = Command::new(path).arg(argument).stdin(Stdio::null()).output();
    let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let words = said.split(|c: char| c.is_whitespace() || "/()".contains(c));
    let version = words.map(|word| word.trim_start_matches(|c: char| !c.is_ascii_digit())).find(|word| {
        word.contains(['.', '-']) && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
    });
    version.unwrap_or("of unknown version").to_owned()
}
