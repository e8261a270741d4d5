//! The last zones on disk, so that they are served after a restart while the API server is away.
//!
//! Lines of JSON: a head, the zones' serials, the record sets, and an end with their number and a checksum. A file that
//! is not whole is not used.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::set::Set;
use super::store::{Sets, Store};
use super::wire_name::WireName;
use crate::model::name::DnsName;

/// The format's version. A file of another one is not used.
const FORMAT: u32 = 1;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("line {line} cannot be read: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    #[error("it has the format {0}, not {FORMAT}")]
    Format(u32),
    #[error("it is not whole")]
    NotWhole,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Format(u32),
    Zone(String, u32),
    Set(Set),
    End { sets: usize, sha256: String },
}

/// Writes what is held: first beside the file, then in its place, so that there is always a whole one.
///
/// # Errors
/// [`io::Error`] where the file or its directory cannot be written.
pub fn save(path: &Path, sets: &Sets, serials: &[(WireName, u32)]) -> io::Result<()> {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    let mut out = Summing { out: BufWriter::with_capacity(1 << 16, &mut file), sum: Sha256::new() };
    out.line(&Line::Format(FORMAT))?;
    for (zone, serial) in serials {
        out.line(&Line::Zone(zone.text(), *serial))?;
    }
    for held in sets.values() {
        out.line(&Line::Set(held.to_set()))?;
    }
    let sha256 = HEXLOWER.encode(&out.sum.clone().finalize());
    out.line(&Line::End { sets: sets.len(), sha256 })?;
    out.out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

struct Summing<W> {
    out: W,
    sum: Sha256,
}

impl<W: Write> Summing<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
        bytes.push(b'\n');
        self.sum.update(&bytes);
        self.out.write_all(&bytes)
    }
}

/// Reads what was held. `None` where there is no file.
///
/// # Errors
/// [`StateError`] where there is one that cannot be used.
pub fn load(path: &Path) -> Result<Option<Store>, StateError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut store, mut sum, mut serials) = (Store::default(), Sha256::new(), Vec::new());
    let (mut bytes, mut count, mut known) = (Vec::new(), 0, false);
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        match serde_json::from_slice(&bytes).map_err(|source| StateError::Line { line, source })? {
            Line::Format(FORMAT) => known = true,
            Line::Format(other) => return Err(StateError::Format(other)),
            Line::Zone(name, serial) => serials.push((name, serial)),
            Line::Set(set) => {
                store.apply(&set);
                count += 1;
            }
            Line::End { sets, sha256 } => {
                if !known || sets != count || sha256 != HEXLOWER.encode(&sum.finalize()) {
                    return Err(StateError::NotWhole);
                }
                store.commit(1);
                for (name, serial) in serials {
                    if let Ok(name) = DnsName::new(&name) {
                        store.restore_serial(&WireName::from(&name), serial);
                    }
                }
                return Ok(Some(store));
            }
        }
        sum.update(&bytes);
    }
    Err(StateError::NotWhole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::testing::{APEX, KEY, set};

    fn store() -> Store {
        let mut store = Store::default();
        let long = format!("b.{APEX}");
        store.apply(&set("a.com", APEX, &[(KEY, "v=DKIM1; p="), (&long, &"x".repeat(700))]));
        store.apply(&set("b.com", "other.example", &[("k.other.example", "y")]));
        store.commit(4_000_000_000);
        store
    }

    fn saved(path: &Path) {
        let store = store();
        let serials: Vec<_> = store.snapshot().zones().map(|z| (z.name.clone(), z.serial)).collect();
        save(path, store.sets(), &serials).unwrap();
    }

    fn sets(store: &Store) -> Vec<Set> {
        let mut sets: Vec<Set> = store.sets().values().map(|held| held.to_set()).collect();
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        sets
    }

    #[test]
    fn what_was_saved_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zones");
        assert!(load(&path).unwrap().is_none());
        for _ in 0..2 {
            saved(&path);
            let loaded = load(&path).unwrap().unwrap();
            assert_eq!(sets(&loaded), sets(&store()));
            assert!(loaded.snapshot().zones().all(|zone| zone.serial == 4_000_000_000));
            assert_eq!(loaded.snapshot().size(), (2, 3));
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_not_whole_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zones");
        saved(&path);
        let whole = std::fs::read(&path).unwrap();
        let text = String::from_utf8(whole.clone()).unwrap();
        for damaged in [
            text.replace("xxx", "xyx"),
            text.replace("{\"format\":1}\n", ""),
            text.replace("\"format\":1", "\"format\":2"),
            text.lines().filter(|line| !line.contains("b.com")).map(|l| format!("{l}\n")).collect(),
            String::new(),
        ] {
            std::fs::write(&path, damaged).unwrap();
            assert!(load(&path).is_err());
        }
        for length in (0..whole.len() - 1).step_by(37) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(load(&path).is_err(), "{length}");
        }
    }
}
