//! Encryption of what leaves a cluster: age (age-encryption.org/v1), as text.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::x25519::Recipient;
use age::{DecryptError, Decryptor, Encryptor, Identity, IdentityFile};
use zeroize::Zeroizing;

use super::error::CliError;

/// How an age file begins, as text and in binary form.
const BEGINNINGS: [&[u8]; 2] = [b"-----BEGIN AGE ENCRYPTED FILE-----", b"age-encryption.org/v1"];
/// How a secret identity begins.
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// What can be wrong. No text of an identity is ever repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error(
        "--recipient (number {0}) is an identity, which is secret: it opens what it is to close. Give its recipient instead, which age-keygen -y KEYFILE prints; and make a new one if others can see this command line"
    )]
    SecretRecipient(usize),
    #[error(
        "--recipient (number {0}) is no recipient of age: give one that begins with age1, as age-keygen -y KEYFILE prints it. Those of plugins and of ssh are not taken"
    )]
    NoRecipient(usize),
    #[error("it cannot be encrypted: {0}")]
    Encrypt(String),
    #[error("--identity: {file} holds no identity of age: {why}")]
    NoIdentity {
        /// The file.
        file: String,
        /// What is there instead, and what to do.
        why: &'static str,
    },
    #[error(
        "{0} is no file that kubectl dkim export wrote: it is not encrypted by age. Nothing was imported"
    )]
    NotSealed(String),
    #[error(
        "{0} is encrypted with a passphrase, not for a recipient, so it was not written by kubectl dkim export. Nothing was imported"
    )]
    Passphrase(String),
    #[error(
        "{0} is encrypted for other recipients than the identities given; name with --identity the file whose recipient was named when it was exported. Nothing was imported"
    )]
    WrongIdentity(String),
    #[error(
        "{0} is damaged: it cannot be decrypted to its end. Copy it again, or export anew. Nothing was imported"
    )]
    Damaged(String),
}

impl From<SealError> for CliError {
    fn from(error: SealError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Reads recipients.
///
/// # Errors
/// [`SealError::SecretRecipient`], [`SealError::NoRecipient`].
pub fn recipients(texts: &[String]) -> Result<Vec<Recipient>, SealError> {
    let read = |(position, text): (usize, &String)| {
        let text = text.trim();
        text.parse::<Recipient>().map_err(|_| {
            if text.to_ascii_uppercase().starts_with(IDENTITY) {
                SealError::SecretRecipient(position + 1)
            } else {
                SealError::NoRecipient(position + 1)
            }
        })
    };
    texts.iter().enumerate().map(read).collect()
}

/// Identities that were read from files.
pub struct Identities(Vec<Box<dyn Identity + Send + Sync>>);

impl Identities {
    /// Reads files as age-keygen writes them.
    ///
    /// # Errors
    /// [`CliError::Input`] where a file cannot be read, [`SealError::NoIdentity`] where it holds none.
    pub fn read(files: &[PathBuf]) -> Result<Self, CliError> {
        let mut all = Vec::new();
        for file in files {
            let text = std::fs::read(file)
                .map_err(|source| CliError::Input { file: file.display().to_string(), source })?;
            all.append(&mut Self::parse(file, &Zeroizing::new(text))?.0);
        }
        Ok(Self(all))
    }

    fn parse(file: &Path, text: &[u8]) -> Result<Self, SealError> {
        let fault = |why| SealError::NoIdentity { file: file.display().to_string(), why };
        if BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)) {
            return Err(fault("it is encrypted itself; decrypt it with age -d first"));
        }
        let lines = "it has a line that is neither a comment nor begins with AGE-SECRET-KEY-1; identities of plugins and of ssh are not taken";
        let found = IdentityFile::from_buffer(text).map_err(|_| fault(lines))?;
        let found = found.into_identities().map_err(|_| fault(lines))?;
        if found.is_empty() {
            return Err(fault("it is empty; age-keygen -o KEYFILE makes one"));
        }
        Ok(Self(found))
    }
}

/// Encrypts, as text.
///
/// # Errors
/// [`SealError::Encrypt`].
pub fn seal(plain: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, SealError> {
    let fault = |error: &dyn std::error::Error| SealError::Encrypt(error.to_string());
    let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(|e| fault(&e))?;
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(|e| fault(&e))?;
    let mut writer = encryptor.wrap_output(armor).map_err(|e| fault(&e))?;
    writer.write_all(plain).map_err(|e| fault(&e))?;
    writer.finish().and_then(ArmoredWriter::finish).map_err(|e| fault(&e))
}

/// Decrypts; `name` is how the input is called in errors.
///
/// # Errors
/// [`SealError`].
pub fn open(sealed: &[u8], name: &str, identities: &Identities) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let name = || name.to_owned();
    let sealed = sealed.trim_ascii_start();
    if !BEGINNINGS.iter().any(|beginning| sealed.starts_with(beginning)) {
        return Err(SealError::NotSealed(name()));
    }
    let decryptor =
        Decryptor::new_buffered(ArmoredReader::new(sealed)).map_err(|_| SealError::Damaged(name()))?;
    if decryptor.is_scrypt() {
        return Err(SealError::Passphrase(name()));
    }
    let identities = identities.0.iter().map(|identity| identity.as_ref() as &dyn Identity);
    let mut reader = decryptor.decrypt(identities).map_err(|error| match error {
        DecryptError::NoMatchingKeys => SealError::WrongIdentity(name()),
        _ => SealError::Damaged(name()),
    })?;
    // What is decrypted is shorter than what was encrypted, so the buffer never moves and leaves nothing behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut plain).map_err(|_| SealError::Damaged(name()))?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::secrecy::ExposeSecret;
    use age::x25519;

    fn identity() -> (x25519::Identity, Identities) {
        let identity = x25519::Identity::generate();
        (identity.clone(), Identities(vec![Box::new(identity)]))
    }

    #[test]
    fn every_recipient_opens_it_and_nobody_else() {
        let ((one, first), (two, second), (_, other)) = (identity(), identity(), identity());
        let texts = [one.to_public().to_string(), format!(" {}\n", two.to_public())];
        let sealed = seal(b"a secret", &recipients(&texts).unwrap()).unwrap();
        assert!(sealed.starts_with(BEGINNINGS[0]));
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
        for identities in [&first, &second] {
            assert_eq!(open(&sealed, "FILE", identities).unwrap().as_slice(), b"a secret");
        }
        assert_eq!(open(&sealed, "FILE", &other).unwrap_err(), SealError::WrongIdentity("FILE".into()));
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let (identity, identities) = identity();
        let sealed = seal(&[7; 300], &[identity.to_public()]).unwrap();
        let text = String::from_utf8(sealed.clone()).unwrap();
        let lines = text.lines().count();
        for cut in 1..lines {
            let shorter: Vec<&str> = text.lines().take(cut).collect();
            let found = open(shorter.join("\n").as_bytes(), "FILE", &identities);
            assert_eq!(found.unwrap_err(), SealError::Damaged("FILE".into()), "{cut} lines");
        }
        for at in (40..sealed.len() - 40).step_by(7) {
            let mut changed = sealed.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(open(&changed, "FILE", &identities).is_err(), "byte {at}");
        }
        for other in [b"".as_slice(), b"hello", b"{}", b"-----BEGIN PGP MESSAGE-----"] {
            assert_eq!(open(other, "FILE", &identities).unwrap_err(), SealError::NotSealed("FILE".into()));
        }
    }

    #[test]
    fn faults_tell_the_way_out_and_nothing_secret() {
        let (secret, identities) = identity();
        let text = secret.to_string().expose_secret().to_owned();
        let public = secret.to_public();
        let mut faults = vec![
            recipients(&[public.to_string(), text.clone()]).unwrap_err(),
            recipients(&[text.to_ascii_lowercase()]).unwrap_err(),
            recipients(&["age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t".into()])
                .unwrap_err(),
        ];
        let sealed = seal(b"x", &[public]).unwrap();
        for file in [b"".as_slice(), b"# nothing\n", b"ssh-ed25519 AAAA\n", &sealed] {
            faults.push(Identities::parse(Path::new("key.txt"), file).map(|_| ()).unwrap_err());
        }
        let encryptor = Encryptor::with_user_passphrase("a passphrase".to_owned().into());
        let mut writer = encryptor.wrap_output(Vec::new()).unwrap();
        writer.write_all(b"x").unwrap();
        faults.push(open(&writer.finish().unwrap(), "FILE", &identities).unwrap_err());
        faults.push(open(b"hello", "FILE", &identities).unwrap_err());
        faults.push(SealError::WrongIdentity("FILE".into()));
        faults.push(SealError::Damaged("FILE".into()));
        let words = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(!words.contains(&text) && !words.to_ascii_uppercase().contains(&text), "{words}");
        insta::assert_snapshot!(words);
    }

    #[test]
    fn reads_files_as_age_keygen_writes_them() {
        let (identity, _) = identity();
        let text = format!(
            "# created: 2026-05-09T12:00:00Z\n# public key: {}\n{}\n",
            identity.to_public(),
            identity.to_string().expose_secret()
        );
        let identities = Identities::parse(Path::new("key.txt"), text.as_bytes()).unwrap();
        let sealed = seal(b"x", &[identity.to_public()]).unwrap();
        assert_eq!(open(&sealed, "FILE", &identities).unwrap().as_slice(), b"x");
    }
}
