//! The text of a `DKIM-Signature` field (RFC 6376 §3.5): tags in the order the product promises, folded.

use data_encoding::BASE64;

use crate::api::Canonicalization;
use crate::api::signing_config::SignatureConfig;
use crate::model::key::Algorithm;

/// The name of the field.
pub const FIELD_NAME: &str = "DKIM-Signature";
/// Longest line written, of the 78 that RFC 5322 §2.1.1 recommends.
const MAX_LINE: usize = 76;
const FOLD: &str = "\r\n\t";

/// A signature field as it is prepended to the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureField(String);

impl SignatureField {
    /// The whole field: name, colon, value, CRLF.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the colon: the space in front kept, folds as CRLF and tab, no final CRLF.
    #[must_use]
    pub fn value(&self) -> &str {
        let value = self.0.strip_prefix(FIELD_NAME).and_then(|rest| rest.strip_prefix(':'));
        value.and_then(|value| value.strip_suffix("\r\n")).unwrap_or_default()
    }
}

/// A signature field whose `b=` is still empty: what is signed in its own place (RFC 6376 §3.7).
#[derive(Debug)]
pub struct UnsignedField {
    folder: Folder,
}

impl UnsignedField {
    /// Writes all tags but the signature. `mode` is how the header is signed, `now` in seconds since 1970.
    #[must_use]
    pub fn new(
        config: &SignatureConfig,
        mode: Canonicalization,
        names: &[&str],
        body_hash: &[u8],
        now: u64,
    ) -> Self {
        let mut folder = Folder::new();
        folder.word("v=1;");
        folder.word(match config.algorithm {
            Algorithm::Rsa => "a=rsa-sha256;",
            Algorithm::Ed25519 => "a=ed25519-sha256;",
        });
        folder.word("q=dns/txt;");
        folder.word(&format!("c={}/{};", mode.as_str(), config.body_canonicalization.as_str()));
        folder.word(&format!("s={};", config.s));
        folder.word(&format!("d={};", config.d));
        if let Some(identity) = &config.identity {
            folder.word(&format!("i={identity};"));
        }
        if config.timestamp {
            folder.word(&format!("t={now};"));
        }
        if let Some(seconds) = config.expiration_seconds {
            folder.word(&format!("x={};", now.saturating_add(seconds)));
        }
        folder.list("h=", names);
        folder.word(&format!("bh={};", BASE64.encode(body_hash)));
        folder.word("b=");
        Self { folder }
    }

    /// What stands behind the colon with an empty `b=`, for the last part of what is signed.
    #[must_use]
    pub fn value(&self) -> &str {
        self.folder.text.strip_prefix(FIELD_NAME).and_then(|rest| rest.strip_prefix(':')).unwrap_or_default()
    }

    /// Completes the field.
    #[must_use]
    pub fn signed(mut self, signature: &[u8]) -> SignatureField {
        self.folder.pieces(&BASE64.encode(signature));
        self.folder.text.push_str("\r\n");
        SignatureField(self.folder.text)
    }
}

/// Writes words with spaces between them and folds before a line gets too long.
#[derive(Debug)]
struct Folder {
    text: String,
    column: usize,
}

impl Folder {
    fn new() -> Self {
        let text = format!("{FIELD_NAME}:");
        Self { column: text.len(), text }
    }

    /// A word that is not broken.
    fn word(&mut self, word: &str) {
        if self.column + 1 + word.len() > MAX_LINE {
            self.fold();
        } else {
            self.raw(" ");
        }
        self.raw(word);
    }

    /// A list with colons, which may be folded behind each of them (RFC 6376 §3.5, `h=`).
    fn list(&mut self, tag: &str, names: &[&str]) {
        let whole = format!("{tag}{};", names.join(":"));
        if whole.len() < MAX_LINE {
            return self.word(&whole);
        }
        for (index, name) in names.iter().enumerate() {
            let end = if index + 1 == names.len() { ';' } else { ':' };
            if index == 0 {
                self.word(&format!("{tag}{name}{end}"));
                continue;
            }
            if self.column + name.len() + 1 > MAX_LINE {
                self.fold();
            }
            self.raw(name);
            self.raw(end.encode_utf8(&mut [0; 4]));
        }
    }

    /// Base64, broken wherever a line is full.
    fn pieces(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.column >= MAX_LINE {
                self.fold();
            }
            let (piece, tail) = rest.split_at_checked(MAX_LINE - self.column).unwrap_or((rest, ""));
            self.raw(piece);
            rest = tail;
        }
    }

    fn fold(&mut self) {
        self.text.push_str(FOLD);
        self.column = 1;
    }

    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::testing::signature_config;
    use proptest::prelude::*;

    fn field(config: &SignatureConfig) -> String {
        let names: Vec<&str> = config.headers.iter().map(String::as_str).collect();
        let unsigned =
            UnsignedField::new(config, config.header_canonicalization, &names, &[7; 32], 1_700_000_000);
        unsigned.signed(&[9; 256]).as_str().to_owned()
    }

    /// Tag names and values, white space removed, in the order written.
    fn tags(field: &str) -> Vec<(String, String)> {
        let value: String = field.strip_prefix("DKIM-Signature:").unwrap().split_ascii_whitespace().collect();
        value
            .split(';')
            .map(|tag| tag.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap())
            .collect()
    }

    #[test]
    fn the_signature_of_the_product() {
        let unfolded = field(&signature_config(Algorithm::Rsa)).replace("\r\n\t", " ");
        let expected = "DKIM-Signature: v=1; a=rsa-sha256; q=dns/txt; c=relaxed/relaxed; s=selector1; d=contoso.com; \
             t=1700000000; h=From:To:Message-ID:Subject:MIME-Version:Content-Type; \
             bh=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=; b=CQkJ";
        assert!(unfolded.starts_with(expected), "{unfolded}");
        insta::assert_snapshot!(field(&signature_config(Algorithm::Rsa)).replace('\t', "<TAB>"));
    }

    #[test]
    fn tags_that_are_off_are_absent() {
        let mut config = signature_config(Algorithm::Ed25519);
        config.timestamp = false;
        let names = |c: &SignatureConfig| tags(&field(c)).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(names(&config), ["v", "a", "q", "c", "s", "d", "h", "bh", "b"]);
        (config.timestamp, config.expiration_seconds) = (true, Some(3600));
        assert_eq!(names(&config), ["v", "a", "q", "c", "s", "d", "t", "x", "h", "bh", "b"]);
        assert!(field(&config).contains("x=1700003600;"));
        config.identity = Some("@contoso.com".into());
        assert!(field(&config).contains(" d=contoso.com; i=@contoso.com;"));
    }

    proptest! {
        #[test]
        fn lines_are_short_and_nothing_is_lost(
            headers in proptest::collection::vec("[A-Za-z-]{1,40}", 1..60),
            s in "[a-z0-9]{1,60}",
        ) {
            let mut config = signature_config(Algorithm::Rsa);
            config.headers.clone_from(&headers);
            config.s = s;
            let text = field(&config);
            let lines: Vec<&str> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
            prop_assert!(lines.iter().all(|l| l.len() <= 78), "{}", text);
            prop_assert!(lines.iter().skip(1).all(|l| l.starts_with('\t') && l.len() > 1));
            let tags = tags(&text);
            prop_assert_eq!(&tags.iter().find(|(n, _)| n == "h").unwrap().1, &headers.join(":"));
            prop_assert_eq!(&tags.last().unwrap().1, &BASE64.encode(&[9; 256]));
        }
    }
}
