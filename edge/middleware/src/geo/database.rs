//! A geolocation database in MaxMind's format.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader};

use super::Location;
use super::record::Record;
use super::verify::{self, Fault};

/// Largest database that is opened, in bytes: it is read into memory. City databases have 60 to 150 MB.
pub const MAX_DATABASE_BYTES: u64 = 512 << 20;

/// A database of addresses, wholly in memory and checked.
///
/// Files are read and not mapped: a file that is overwritten in place would pull the memory away from under the reader.
/// To update, write a new file, rename it over the old one, and [`open`](Self::open) that.
#[derive(Debug)]
pub struct Database(Source);

#[derive(Debug)]
enum Source {
    Builtin(Reader<&'static [u8]>),
    File(Reader<Vec<u8>>),
}

/// Why a database cannot be used, or one lookup failed.
#[derive(Debug, thiserror::Error)]
pub enum GeoError {
    /// The file could not be read.
    #[error("geolocation database {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is over [`MAX_DATABASE_BYTES`].
    #[error("geolocation database {} is over the {} MiB that are read into memory", path.display(), MAX_DATABASE_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The bytes are no sound database.
    #[error(
        "geolocation database {name} is damaged or not in MaxMind DB format ({reason}): replace it with an intact copy"
    )]
    Corrupt {
        /// The file, or `(builtin)`.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sound database, but of something else.
    #[error(
        "geolocation database {name} is of type `{database_type}` and has no field that is known here: use a country, city or ASN database"
    )]
    Unsupported {
        /// The file, or `(builtin)`.
        name: String,
        /// What the database calls itself.
        database_type: String,
    },
    /// A record could not be read. Not possible for a database that was opened whole.
    #[error("geolocation record of {address} cannot be read: {source}")]
    Record {
        /// Whose record.
        address: IpAddr,
        /// What is wrong with it.
        source: MaxMindDbError,
    },
}

impl Database {
    /// The country database that this crate carries, in place: nothing is copied.
    ///
    /// # Errors
    /// [`GeoError::Corrupt`] if the bytes in the binary are damaged.
    pub fn builtin() -> Result<Self, GeoError> {
        let bytes: &'static [u8] = include_bytes!("../../data/iptoasn-country.mmdb");
        let reader = Reader::from_source(bytes).map_err(|error| corrupt("(builtin)", error))?;
        Ok(Self(Source::Builtin(reader)))
    }

    /// Reads a database and checks all of it: metadata, every node of its tree, every record.
    ///
    /// # Errors
    /// [`GeoError`], with the path, for a file that cannot be read, is too large, is damaged anywhere, or has no field
    /// that is known here.
    pub fn open(path: &Path) -> Result<Self, GeoError> {
        let io = |source| GeoError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        // One byte over the bound is enough to know, even of a file that has no end.
        File::open(path).and_then(|file| file.take(MAX_DATABASE_BYTES + 1).read_to_end(&mut bytes)).map_err(io)?;
        if bytes.len() as u64 > MAX_DATABASE_BYTES {
            return Err(GeoError::TooLarge { path: path.to_owned() });
        }
        Self::from_bytes(bytes, &path.display().to_string())
    }

    /// As [`open`](Self::open), of bytes at hand; `name` is for the error.
    ///
    /// # Errors
    /// [`GeoError::Corrupt`] and [`GeoError::Unsupported`].
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<Self, GeoError> {
        let reader = Reader::from_source(bytes.as_slice()).map_err(|error| corrupt(name, error))?;
        verify::verify(&bytes, &reader).map_err(|fault| match fault {
            Fault::Corrupt(reason) => corrupt(name, reason),
            Fault::NothingKnown => {
                let database_type = reader.metadata().database_type.chars().take(100).collect();
                GeoError::Unsupported { name: name.to_owned(), database_type }
            }
        })?;
        let reader = Reader::from_source(bytes).map_err(|error| corrupt(name, error))?;
        Ok(Self(Source::File(reader)))
    }

    /// Where `address` is. Empty for an address that is not in the database, that an IPv4-only database cannot have, or
    /// that is not public; an IPv4-mapped IPv6 address counts as IPv4. About a microsecond.
    ///
    /// # Errors
    /// [`GeoError::Record`] for a damaged record.
    pub fn lookup(&self, address: IpAddr) -> Result<Location, GeoError> {
        let address = address.to_canonical();
        if !is_public(address) {
            return Ok(Location::default());
        }
        let record = match &self.0 {
            Source::Builtin(reader) => read(reader, address),
            Source::File(reader) => read(reader, address),
        };
        let record = record.map_err(|source| GeoError::Record { address, source })?;
        Ok(record.map(|record| record.location()).unwrap_or_default())
    }

    /// What the database calls itself, such as `GeoIP2-City`.
    pub fn database_type(&self) -> &str {
        match &self.0 {
            Source::Builtin(reader) => &reader.metadata().database_type,
            Source::File(reader) => &reader.metadata().database_type,
        }
    }

    /// When it was built, in seconds after 1970.
    pub fn build_epoch(&self) -> u64 {
        match &self.0 {
            Source::Builtin(reader) => reader.metadata().build_epoch,
            Source::File(reader) => reader.metadata().build_epoch,
        }
    }
}

fn corrupt(name: &str, reason: impl ToString) -> GeoError {
    GeoError::Corrupt { name: name.to_owned(), reason: reason.to_string() }
}

/// The record of `address`: `None` where there is none.
pub(super) fn read<S: AsRef<[u8]>>(reader: &Reader<S>, address: IpAddr) -> Result<Option<Record>, MaxMindDbError> {
    if address.is_ipv6() && reader.metadata().ip_version == 4 {
        return Ok(None);
    }
    reader.lookup(address)?.decode()
}

/// Whether an address is one of the public internet: not private, local, shared, multicast or reserved (the IANA
/// special-purpose registries, RFC 6890). An IPv4 address inside an IPv6 one is judged as what it leads to.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let special = matches!((a, b, c), (0 | 240.., ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18 | 19, _));
            !(special || v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast())
        }
        IpAddr::V6(v6) => match v6.segments() {
            // NAT64 (RFC 6052), 6to4 (RFC 3056) and Teredo (RFC 4380, which inverts the client's address).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public(embedded(high, low)),
            [0x2001, 0, .., high, low] => is_public(embedded(!high, !low)),
            // Of all the rest only 2000::/3 is global unicast (RFC 4291, 2.4): that leaves out site-local fec0::/10,
            // IPv4-compatible ::/96, and 64:ff9b:1::/48, behind which is somebody's own network (RFC 8215).
            [first, ..] => first & 0xe000 == 0x2000,
        },
    }
}

fn embedded(high: u16, low: u16) -> IpAddr {
    IpAddr::V4((u32::from(high) << 16 | u32::from(low)).into())
}

#[cfg(test)]
mod tests;
