//! What the signer beside us is to sign with, as its files will say it.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use zeroize::Zeroizing;

use super::format::{Encoding, Format};
use crate::api::signing_config::{SignatureConfig, SigningConfig};
use crate::model::key::{KeyError, KeyFingerprint, PrivateKey};
use crate::signing::KeySet;

/// How much of the fingerprint's digest names a key file: 16 bytes, which nobody makes collide by chance, and a
/// collision made on purpose would have to be made by the operator.
const NAME_BYTES: usize = 16;

/// The sets of signatures to make, domain by domain, and the contents of the key files they name.
#[derive(Default)]
pub struct Wanted {
    /// Sorted by domain; `key_file` is the file's name in our `keys` directory.
    pub sets: Vec<SigningConfig>,
    /// Contents of key files by name, ready to be written.
    pub keys: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// What cannot be signed by this signer, in words.
    pub left_out: Vec<String>,
}

impl Wanted {
    /// What the keys of all domains come to for this signer.
    ///
    /// # Errors
    /// [`KeyError`] where a key that was read cannot be written again.
    pub fn of(format: Format, keys: &KeySet) -> Result<Self, KeyError> {
        let mut wanted = Self::default();
        for (domain, bundle) in keys.domains() {
            let mut set = SigningConfig {
                format_version: crate::api::signing_config::FORMAT_VERSION,
                domain: domain.clone(),
                signatures: Vec::new(),
            };
            for (signature, key) in bundle.signatures() {
                match format.encoding(domain, signature) {
                    Ok(encoding) => {
                        let file = key_file(&signature.fingerprint, encoding);
                        wanted.keys.entry(file.clone()).or_insert(encode(key, encoding)?);
                        set.signatures.push(SignatureConfig { key_file: file, ..signature.clone() });
                    }
                    Err(why) => wanted.left_out.push(format!(
                        "{domain}: the signature d={} s={} is left out: {why}",
                        signature.d, signature.s
                    )),
                }
            }
            if !set.signatures.is_empty() {
                wanted.sets.push(set);
            }
        }
        Ok(wanted)
    }
}

/// The name of a key's file: what it is called never says anything else than which key it is, so that a file is
/// written once and never changed.
fn key_file(fingerprint: &KeyFingerprint, encoding: Encoding) -> String {
    let digest = fingerprint.as_str().trim_start_matches("SHA256:");
    let bytes = data_encoding::BASE64_NOPAD.decode(digest.as_bytes()).unwrap_or_default();
    let short = bytes.get(..NAME_BYTES).unwrap_or(&bytes);
    format!("{}.{}", HEXLOWER.encode(short), encoding.extension())
}

fn encode(key: &PrivateKey, encoding: Encoding) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    match encoding {
        Encoding::Pem => Ok(Zeroizing::new(key.expose_pem().as_bytes().to_vec())),
        Encoding::Seed => {
            // PKCS#8 of an Ed25519 key ends in the seed (RFC 8410 §7), as we write it and read it.
            let der = key.expose_der()?;
            let seed = der.len().checked_sub(32).and_then(|at| der.get(at..)).ok_or(KeyError::Unreadable)?;
            let mut text = Zeroizing::new(BASE64.encode(seed).into_bytes());
            text.push(b'\n');
            Ok(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;

    use crate::model::key::KeyKind;

    #[test]
    fn a_seed_is_the_last_32_bytes_of_rfc_8410_s_key() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let key = PrivateKey::from_pem(pem).unwrap();
        let text = encode(&key, Encoding::Seed).unwrap();
        assert_eq!(text.as_slice(), b"1O5y2/kTWErVttjx92n4rTr+fCjL8dT74Jeoj0R1WEI=\n");
    }

    #[test]
    fn names_tell_the_key_and_its_encoding() {
        let public = PrivateKey::generate(KeyKind::Ed25519, &mut SysRng).unwrap().public().unwrap();
        let fingerprint = public.fingerprint().unwrap();
        let name = key_file(&fingerprint, Encoding::Pem);
        assert_eq!(name.len(), 2 * NAME_BYTES + ".pem".len());
        assert_ne!(name, key_file(&fingerprint, Encoding::Seed));
    }
}
