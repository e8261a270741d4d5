//! Tag lists: `DKIM-Signature` fields and key records (RFC 6376 §3.2).

use data_encoding::BASE64;

/// The tags of a list, in its order. What is no tag is passed over: mail-auth says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tags(Vec<(String, String)>);

impl Tags {
    pub(super) fn parse(list: &[u8]) -> Self {
        let text = String::from_utf8_lossy(list);
        let tags = text.split(';').filter_map(|tag| tag.split_once('='));
        Self(tags.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
    }

    /// A tag's value, white space taken out.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        Some(value.split_ascii_whitespace().collect())
    }

    /// A tag's value as base64.
    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        BASE64.decode(self.get(name)?.as_bytes()).ok()
    }
}

/// A `DKIM-Signature` value with its `b=` emptied (RFC 6376 §3.7).
pub(super) fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for (index, tag) in value.split(|b| *b == b';').enumerate() {
        if index > 0 {
            out.push(b';');
        }
        let equals = tag.iter().position(|b| *b == b'=');
        match equals {
            Some(at) if tag.get(..at).unwrap_or_default().trim_ascii() == b"b" => {
                out.extend_from_slice(tag.get(..=at).unwrap_or_default());
            }
            _ => out.extend_from_slice(tag),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_with_folds() {
        let tags = Tags::parse(b" v=1; a=rsa-sha256;\r\n\tb=QU\r\n\tJD; bh = AA== ;x");
        assert_eq!(tags.get("b").as_deref(), Some("QUJD"));
        assert_eq!(tags.bytes("b").as_deref(), Some(b"ABC".as_slice()));
        assert_eq!((tags.get("bh").as_deref(), tags.get("x")), (Some("AA=="), None));
    }

    #[test]
    fn the_signature_itself_is_emptied() {
        let emptied = |text: &str| String::from_utf8(without_signature(text.as_bytes())).unwrap();
        assert_eq!(emptied(" bh=x; b=QU\r\n\tJD; h=From"), " bh=x; b=; h=From");
        assert_eq!(emptied(" bh=x;\r\n b = QU=="), " bh=x;\r\n b =");
        assert_eq!(emptied(" a=b"), " a=b");
    }
}
