//! What Sendmail does to a header after a milter has seen it: when it sends a message on, it writes fields with addresses anew,
//! takes some fields away, and adds a Message-ID and a date where there are none. No signature may cover that. Why it gives way and
//! how far is in docs/decisions/0045-what-sendmail-changes.md.
//!
//! Taken from what Sendmail 8.17 does, with `MustQuoteChars` empty as docs/milter.md wants it; `tests/sendmail.rs` shows it.

use crate::signing::Header;

/// Fields whose addresses it writes anew, besides `From:`.
const ADDRESSES: [&str; 13] = [
    "To",
    "Cc",
    "Sender",
    "Reply-To",
    "Errors-To",
    "Apparently-To",
    "Return-Receipt-To",
    "Disposition-Notification-To",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Reply-To",
];
/// Fields that it adds where they are not there.
const ADDED: [&str; 5] = ["Message-ID", "Date", "Resent-From", "Resent-Message-ID", "Resent-Date"];
/// Fields that it takes away.
const REMOVED: [&str; 5] = ["Bcc", "Resent-Bcc", "Return-Path", "Full-Name", "Content-Length"];
/// An address with phrase and comments that is longer than this may lose them: Sendmail has room for 256 bytes.
const LONGEST: usize = 240;

/// Leaves out of the signatures of a message what it will change: fields, and white space.
///
/// # Errors
/// Why no signature would verify: `From:` is always covered.
pub fn foresee(header: &mut Header) -> Result<(), &'static str> {
    header.loosen();
    leave_out(header)
}

fn leave_out(header: &mut Header) -> Result<(), &'static str> {
    let changes = |header: &Header, name: &str| header.all(name).any(|field| !stays(&field.value));
    if changes(header, "From") {
        return Err(
            "its From: is not as RFC 5322 §3.4 has it, and Sendmail writes it anew when it has been signed",
        );
    }
    for name in ADDRESSES {
        if changes(header, name) {
            header.leave_out(name);
        }
    }
    for name in ADDED {
        if header.count(name) == 0 {
            header.leave_out(name);
        }
    }
    REMOVED.iter().for_each(|name| header.leave_out(name));
    Ok(())
}

/// What has been read of one address.
#[derive(Default)]
struct Item {
    /// There is something in it.
    begun: bool,
    /// It has an `@` outside of quotes and comments.
    at: bool,
    /// In a phrase it would be put into quotes.
    special: bool,
    /// It is of several words.
    words: bool,
    /// Its `<…>` is over.
    closed: bool,
    last: u8,
    /// Where it begins.
    from: usize,
}

impl Item {
    /// The one that begins there.
    fn at(from: usize) -> Self {
        Self { from, ..Self::default() }
    }

    /// Whether it stays what it is: a name is added to what has none, and a dot at the end goes.
    fn stays(&self, end: usize) -> bool {
        let short = end.saturating_sub(self.from) <= LONGEST;
        short && self.begun && (self.closed || (self.at && !self.words && self.last != b'.'))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether it leaves the addresses of a field as they are, up to white space where there is some. In doubt it does not.
fn stays(value: &[u8]) -> bool {
    if value.iter().all(|byte| is_blank(*byte)) {
        return true;
    }
    let mut bytes = value.iter().copied().peekable();
    let mut before = b' ';
    let mut item = Item::default();
    let mut group = false;
    while let Some(byte) = bytes.next() {
        let end = value.len() - bytes.len();
        match byte {
            b'"' if !item.closed && skip_quoted(&mut bytes) => (item.begun, item.last) = (true, byte),
            // A space is put before a comment.
            b'(' if (is_blank(before) || !item.begun) && skip_comment(&mut bytes) => {}
            b'<' if !item.closed && !item.special && skip_angle(&mut bytes) => {
                (item.begun, item.closed) = (true, true);
            }
            b'"' | b'(' | b'<' | b'>' | b')' | b'\\' => return false,
            b',' => {
                // One space is written behind each comma, and none before it.
                if !item.stays(end) || is_blank(before) || !bytes.peek().is_some_and(|next| is_blank(*next)) {
                    return false;
                }
                item = Item::at(end);
            }
            b':' if !group && item.begun && !item.special && !item.closed => {
                group = true;
                item = Item::at(end);
            }
            b':' => return false,
            b';' => return group && (item.stays(end) || !item.begun) && bytes.all(is_blank),
            blank if is_blank(blank) => {}
            _ if item.closed => return false,
            other => {
                item.words |= item.begun && is_blank(before);
                item.at |= other == b'@';
                item.special |= matches!(other, b'@' | b'[' | b']');
                (item.begun, item.last) = (true, other);
            }
        }
        before = byte;
    }
    !group && item.stays(value.len())
}

/// Goes behind the quote that ends what a quote began, if there is one.
fn skip_quoted(bytes: &mut impl Iterator<Item = u8>) -> bool {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return true,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
    false
}

/// Goes behind a comment, if it ends.
fn skip_comment(bytes: &mut impl Iterator<Item = u8>) -> bool {
    let mut depth = 1;
    while let Some(byte) = bytes.next() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
        if depth == 0 {
            return true;
        }
    }
    false
}

/// Goes behind an address in `<…>`; whether that stays what it is.
fn skip_angle(bytes: &mut impl Iterator<Item = u8>) -> bool {
    let (mut at, mut last) = (false, 0);
    while let Some(byte) = bytes.next() {
        match byte {
            b'>' => return at && last != b'.',
            b'"' if !skip_quoted(bytes) => return false,
            b'@' => at = true,
            b',' | b':' | b';' | b'<' | b'(' | b'\\' => return false,
            blank if is_blank(blank) => return false,
            _ => {}
        }
        last = byte;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_that_are_as_mail_programs_write_them() {
        for value in [
            "",
            " ",
            " joe@contoso.com",
            "joe@contoso.com",
            " <joe@contoso.com>",
            " Joe <joe@contoso.com>",
            " Joe Q. O'Neil <joe@contoso.com>",
            " \"Doe, Joe\"\r\n <joe@contoso.com>",
            " \"a \\\" b\" <joe@contoso.com> ",
            " =?utf-8?Q?J=C3=B6._x?= <joe@contoso.com>",
            " joe@contoso.com (Joe  (the) Doe)",
            " (c) joe@contoso.com",
            " Joe (Sales) <joe@contoso.com> (x)",
            " a@x.example, b@y.example,\r\n\t\"C\" <c@z.example>",
            " \"a b\"@x.example, ann@[192.0.2.1]",
            " undisclosed-recipients:;",
            " Team A: a@x.example, b@y.example; ",
            " J\u{f6} <joe@contoso.com>",
        ] {
            assert!(stays(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn whatever_is_written_otherwise_does_not_stay() {
        for value in [
            " ann",
            " Ann <ann>",
            " a@x.example,b@y.example",
            " a@x.example , b@y.example",
            " a@x.example, ",
            " a@x.example,",
            " a@x.example, , b@y.example",
            " a@x.example; b@y.example",
            " Ann < a@x.example >",
            " <@a.example,@b.example:ann@receiver.example>",
            " a@x.example.",
            " <a@x.example.>",
            " joe@contoso.com <joe@contoso.com>",
            " Joe [x] <joe@contoso.com>",
            " Joe \\x <joe@contoso.com>",
            " joe@contoso.com(c)",
            " <joe@contoso.com> Joe",
            " <joe@contoso.com> <a@x.example>",
            " Team: a@x.example; , b@y.example",
            " Team: a@x.example",
            " a b@x.example",
            " \"joe@contoso.com",
            " joe@contoso.com (",
            " <joe@contoso.com",
            " joe@contoso.com>",
        ] {
            assert!(!stays(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn long_phrases_and_comments_do_not_stay() {
        for (size, stay) in [(200, true), (230, false), (2_000, false)] {
            let x = "x".repeat(size);
            for value in [
                format!(" {x} <joe@contoso.com>"),
                format!(" \"{x}\" <joe@contoso.com>"),
                format!(" joe@contoso.com ({x})"),
                format!(" {x}@contoso.com"),
                format!(" a@x.example, {x} <joe@contoso.com>, b@y.example"),
                format!(" Team: {x} <joe@contoso.com>;"),
            ] {
                assert_eq!(stays(value.as_bytes()), stay, "{value}");
            }
        }
        let many = "user@receiver.example, ".repeat(100);
        assert!(stays(format!(" {many}joe@contoso.com").as_bytes()));
    }

    #[test]
    fn what_is_added_and_rewritten_is_not_signed() {
        let names = ["From", "To", "Message-ID", "Subject", "Cc", "Date", "Bcc", "Content-Length"];
        let names = names.map(str::to_owned);
        let signed = |text: &str, oversign| {
            let mut header = Header::parse(text.as_bytes()).unwrap();
            leave_out(&mut header).map(|()| header.signed_names(&names, oversign).join(":"))
        };
        let whole =
            "From: joe@contoso.com\r\nTo: a@x.example\r\nMessage-ID: <1@x>\r\nDate: x\r\nSubject: x\r\n";
        assert_eq!(signed(whole, false).unwrap(), "From:To:Message-ID:Subject:Cc:Date");
        let odd = "From: joe@contoso.com\r\nTo: a@x.example,b@y.example\r\nTo: c@z.example\r\n";
        assert_eq!(signed(odd, false).unwrap(), "From:Subject:Cc");
        assert_eq!(signed(odd, true).unwrap(), "From:From:Subject:Cc");
        assert!(signed("From: Joe [x] <joe@contoso.com>\r\n", false).unwrap_err().contains("Sendmail"));
    }
}
