//! Signing: keys from a mounted Secret, whose mail it is, the `DKIM-Signature` field (RFC 6376, RFC 8301,
//! RFC 8463), and a look at what a receiver would say.
//!
//! ```text
//! KeyStore::load(dir) ─┐
//! Header ── author_domains() ── KeyStore::for_authors ── MessageSigner::new ── body(chunk)… ── finish(now)
//! ```

mod acknowledge;
mod address;
mod bundle;
mod canon;
mod command;
mod earlier;
mod fault;
mod field;
mod header;
mod key_secret;
mod key_set;
mod keys;
mod report;
mod signer;
mod signing_key;
mod source;
mod store;
#[cfg(test)]
pub(crate) mod testing;
mod verify;
mod watch;

pub use acknowledge::{AcknowledgeArgs, Reporter, report};
pub use address::{AuthorError, author_domains};
pub use bundle::KeyBundle;
pub use canon::{BodyCanonicalizer, Sink, canonical_field};
pub use command::{MadeSignature, SignError, SignReport, Unknown, run_sign};
pub use fault::{KeyDirError, KeyDirFault};
pub use field::{FIELD_NAME, SignatureField};
pub use header::{Field, Header, HeaderError, MAX_HEADER};
pub use key_secret::KeySecret;
pub use key_set::KeySet;
pub use keys::{DomainKeys, Signer};
pub use report::{Alignment, BodyHash, KeyReport, SignatureReport, Verdict, VerifyReport};
pub use signer::{Made, MessageSigner};
pub use signing_key::{SigningFailed, SigningKey};
pub use source::{KeyEvent, KeySource};
pub use store::{Entry, KeyStore};
pub use verify::{Hop, Verifier, VerifierError};
pub use watch::{Change, News, SecretWatch, WATCH_TIMEOUT};
