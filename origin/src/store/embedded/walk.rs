//! Listing a tree of folders in the byte order of keys, page by page, in bounded memory.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::key::Key;
use crate::store::Page;

/// Names of one folder looked at in one round.
const ROUND: usize = 4096;

/// At most `limit` keys below `folder`, whose objects are in `path`.
pub(super) fn page(path: &Path, folder: &Key, after: Option<&Key>, limit: usize) -> io::Result<Page> {
    // One more than asked for tells whether there are more.
    let mut found = Found { after: after.map_or("", Key::as_str), want: limit + 1, keys: Vec::new() };
    found.walk(path, &format!("{folder}/"))?;
    let more = found.keys.len() > limit;
    found.keys.truncate(limit);
    Ok(Page { keys: found.keys, more })
}

struct Found<'a> {
    after: &'a str,
    want: usize,
    keys: Vec<Key>,
}

impl Found<'_> {
    /// Adds the keys in the folder `path`, which all begin with `prefix`. The depth is bounded by the length of keys.
    fn walk(&mut self, path: &Path, prefix: &str) -> io::Result<()> {
        let mut floor = String::new();
        loop {
            let (names, more) = self.names(path, prefix, &floor)?;
            for name in names {
                if self.keys.len() >= self.want {
                    return Ok(());
                }
                let full = format!("{prefix}{name}");
                match name.strip_suffix('/') {
                    Some(folder) => self.walk(&path.join(format!("{folder}.d")), &full)?,
                    None => self.keys.extend(Key::parse(&full).ok()),
                }
                floor = name;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// The first names in the folder after `floor` that can lead to keys after `self.after`, and whether there are
    /// more. A folder's name ends with `/`, which puts it where its keys belong among its neighbours.
    fn names(&self, path: &Path, prefix: &str, floor: &str) -> io::Result<(BTreeSet<String>, bool)> {
        let (mut names, mut more) = (BTreeSet::new(), false);
        let entries = match fs::read_dir(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok((names, more)),
            other => other?,
        };
        for entry in entries {
            let file_name = entry?.file_name();
            let name = match file_name.to_str().and_then(|n| n.split_at_checked(n.len().wrapping_sub(2))) {
                Some((segment, ".d")) => format!("{segment}/"),
                Some((segment, ".o")) => segment.to_owned(),
                _ => continue,
            };
            let full = format!("{prefix}{name}");
            let behind = full.as_str() <= self.after && !(name.ends_with('/') && self.after.starts_with(&full));
            if behind || name.as_str() <= floor {
                continue;
            }
            names.insert(name);
            if names.len() > ROUND {
                names.pop_last();
                more = true;
            }
        }
        Ok((names, more))
    }
}
