//! Whose mail it is: the domains of the mailboxes in `From:` (RFC 5322 §3.4, with the obsolete forms of §4.4 and
//! UTF-8 as in RFC 6532).
//!
//! An element of the list that is no mailbox is passed over (people forget to quote `Doe, John`), but nothing is
//! guessed within one: a quoted string, a comment or a display name never gives a domain.

use crate::model::name::DomainName;

/// Why the author's domain is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorError {
    #[error(
        "the message has no From: field, which RFC 5322 requires; the domain to sign for is taken from it"
    )]
    NoFrom,
    #[error("the message has {0} From: fields; RFC 5322 allows one, and receivers refuse such mail")]
    SeveralFroms(usize),
    #[error("there is no mailbox with a domain (such as joe@contoso.com) in the From: field")]
    NoMailbox,
}

/// What a field's value is made of, comments and white space left out.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// Atom text, also encoded words.
    Atom(&'a [u8]),
    /// A quoted string; what is in it does not matter here.
    Quoted,
    /// A domain literal such as `[192.0.2.1]`.
    Literal,
    /// One of `< > @ , ; : .`
    Special(u8),
    /// Something that is not closed; nothing behind it can be trusted.
    Broken,
}

/// The domains of the mailboxes in a `From:` value, in order; at least one.
///
/// # Errors
/// [`AuthorError::NoMailbox`].
pub fn author_domains(value: &[u8]) -> Result<Vec<DomainName>, AuthorError> {
    let tokens = tokens(value);
    let mut domains = Vec::new();
    let mut element: Vec<&Token<'_>> = Vec::new();
    let mut angle = false;
    for token in &tokens {
        match token {
            Token::Special(b',' | b';') if !angle => {
                domains.extend(mailbox(&element));
                element.clear();
            }
            // What stands before it is the display name of a group.
            Token::Special(b':') if !angle => element.clear(),
            other => {
                match other {
                    Token::Special(b'<') => angle = true,
                    Token::Special(b'>') => angle = false,
                    _ => {}
                }
                element.push(other);
            }
        }
    }
    domains.extend(mailbox(&element));
    if domains.is_empty() { Err(AuthorError::NoMailbox) } else { Ok(domains) }
}

/// The domain of one mailbox: `addr-spec`, or `display-name <addr-spec>`.
fn mailbox(element: &[&Token<'_>]) -> Option<DomainName> {
    if element.contains(&&Token::Broken) {
        return None;
    }
    let opening = element.iter().position(|t| **t == Token::Special(b'<'));
    let Some(opening) = opening else { return addr_spec(element) };
    let inner = element.get(opening + 1..)?.strip_suffix(&[&Token::Special(b'>')])?;
    if inner.iter().any(|t| matches!(t, Token::Special(b'<' | b'>'))) {
        return None;
    }
    // An obsolete route (`<@relay.example:joe@contoso.com>`) goes before the address.
    let route = inner.iter().rposition(|t| **t == Token::Special(b':')).map_or(0, |at| at + 1);
    addr_spec(inner.get(route..)?)
}

fn addr_spec(tokens: &[&Token<'_>]) -> Option<DomainName> {
    let mut sides = tokens.split(|t| **t == Token::Special(b'@'));
    let (local, domain, none) = (sides.next()?, sides.next()?, sides.next());
    if none.is_some() || !is_local_part(local) {
        return None;
    }
    let mut text = String::new();
    let mut atom_before = false;
    for token in domain {
        match token {
            Token::Atom(atom) if !atom_before => text.push_str(std::str::from_utf8(atom).ok()?),
            Token::Special(b'.') => text.push('.'),
            _ => return None,
        }
        atom_before = matches!(token, Token::Atom(_));
    }
    DomainName::parse(&text).ok()
}

/// Words with dots between them; dots in odd places occur in real addresses and do no harm.
fn is_local_part(tokens: &[&Token<'_>]) -> bool {
    let word = |t: &Token<'_>| matches!(t, Token::Atom(_) | Token::Quoted);
    let fits = tokens.iter().all(|t| word(t) || **t == Token::Special(b'.'));
    fits && tokens.iter().any(|t| word(t)) && !tokens.windows(2).any(|pair| pair.iter().all(|t| word(t)))
}

fn tokens(value: &[u8]) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = value;
    while let Some((&first, tail)) = rest.split_first() {
        let (token, after) = match first {
            b' ' | b'\t' | b'\r' | b'\n' => (None, Some(tail)),
            b'(' => (None, after_comment(tail)),
            b'"' => (Some(Token::Quoted), after_closing(tail, b'"')),
            b'[' => (Some(Token::Literal), after_closing(tail, b']')),
            b'<' | b'>' | b'@' | b',' | b';' | b':' | b'.' => (Some(Token::Special(first)), Some(tail)),
            b')' | b']' | b'\\' | 0..=31 | 127 => (Some(Token::Broken), Some(tail)),
            _ => {
                let end = rest.iter().position(|b| !is_atext(*b)).unwrap_or(rest.len());
                let (atom, after) = rest.split_at(end);
                (Some(Token::Atom(atom)), Some(after))
            }
        };
        let Some(after) = after else {
            tokens.push(Token::Broken);
            break;
        };
        tokens.extend(token);
        rest = after;
    }
    tokens
}

/// Anything that is neither special, nor white space, nor a control character (RFC 5322 §3.2.3, RFC 6532 §3.2).
fn is_atext(byte: u8) -> bool {
    !matches!(
        byte,
        0..=32
            | 127
            | b'('
            | b')'
            | b'<'
            | b'>'
            | b'['
            | b']'
            | b':'
            | b';'
            | b'@'
            | b'\\'
            | b','
            | b'.'
            | b'"'
    )
}

/// What is behind the comment whose parenthesis was just read; comments nest (RFC 5322 §3.2.2).
fn after_comment(mut rest: &[u8]) -> Option<&[u8]> {
    let mut depth = 1usize;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\\' => rest = tail.get(1..)?,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(rest);
        }
    }
    None
}

fn after_closing(mut rest: &[u8], closing: u8) -> Option<&[u8]> {
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\\' => rest = tail.get(1..)?,
            byte if byte == closing => return Some(rest),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domains(value: &str) -> Vec<String> {
        author_domains(value.as_bytes()).unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mailboxes_as_people_write_them() {
        for (value, expected) in [
            (" joe@contoso.com", "contoso.com"),
            (" Joe <joe@Contoso.COM>\r\n", "contoso.com"),
            (" Joe Q. Public <john.q.public@contoso.com>", "contoso.com"),
            (" \"Doe, Joe\" <joe@contoso.com>", "contoso.com"),
            (" Doe, Joe <joe@contoso.com>", "contoso.com"),
            (" joe@evil.example <joe@contoso.com>", "contoso.com"),
            (" \"joe@evil.example\" <joe@contoso.com>", "contoso.com"),
            (" (joe@evil.example) joe@contoso.com (or (so) \\) x@y.z)", "contoso.com"),
            (" joe(c)@(c)contoso (c) . (c) com", "contoso.com"),
            (" \"joe@evil.example\"@contoso.com", "contoso.com"),
            (" \"a\\\"b\"@contoso.com", "contoso.com"),
            (" Joe\r\n\t<joe@\r\n contoso.com>", "contoso.com"),
            (" <@a.example,@b.example:joe@contoso.com>", "contoso.com"),
            (" =?UTF-8?Q?J=C3=B6e?= <joe@contoso.com>", "contoso.com"),
            (" =?UTF-8?Q?Doe,_J?= <joe@contoso.com>", "contoso.com"),
            (" Jö <jö@bücher.example>", "xn--bcher-kva.example"),
            (" x@xn--bcher-kva.example", "xn--bcher-kva.example"),
            (" joe@contoso.com.", "contoso.com"),
            (" a..b.@contoso.com", "contoso.com"),
            (" Mailer <MAILER-DAEMON@mail.contoso.com>", "mail.contoso.com"),
            ("joe@contoso.com;", "contoso.com"),
        ] {
            assert_eq!(domains(value), [expected], "{value}");
        }
    }

    #[test]
    fn several_authors_keep_their_order() {
        assert_eq!(domains("a@x.com, B <b@y.com>,,\r\n c@z.com"), ["x.com", "y.com", "z.com"]);
        assert_eq!(domains("Team: a@x.com, B <b@y.com>; c@z.com"), ["x.com", "y.com", "z.com"]);
        assert_eq!(domains("broken <a@x.com, b@y.com>, c@z.com"), ["z.com"]);
    }

    #[test]
    fn nothing_is_guessed() {
        for value in [
            "",
            " ",
            "Joe",
            "<>",
            "joe@",
            "@contoso.com",
            "joe@localhost",
            "joe@[192.0.2.1]",
            "joe@a@contoso.com",
            "<a@x.com> <b@y.com>",
            "<a@x.com> b",
            "\"joe <joe@contoso.com>",
            "(joe <joe@contoso.com>",
            "joe <joe@contoso.com",
            "John Doe joe@contoso.com",
            "joe@con toso.com",
            "joe@con_toso.com",
            "Undisclosed:;",
            "joe@contoso.com)",
            "\\joe@contoso.com",
            "joe@contoso\0.com",
        ] {
            assert_eq!(author_domains(value.as_bytes()), Err(AuthorError::NoMailbox), "{value}");
        }
        assert!(author_domains(b"J\xf6 <joe@contoso.com>").is_ok(), "8-bit in the display name is no harm");
        assert!(author_domains(b"joe@b\xfccher.example").is_err());
    }

    #[test]
    fn deep_comments_take_no_stack() {
        let deep = format!("{}{} joe@contoso.com", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(domains(&deep), ["contoso.com"]);
    }

    proptest! {
        #[test]
        fn never_panics(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = author_domains(&value);
        }

        #[test]
        fn never_panics_on_likely_text(value in "([a-z@.<>,;:\"\\\\() \r\n\t\\[\\]]|@x\\.com){0,60}") {
            let _ = author_domains(value.as_bytes());
        }

        #[test]
        fn what_is_quoted_or_a_comment_gives_no_domain(hidden in "[a-z@.<>,;: ]{0,30}") {
            prop_assert_eq!(domains(&format!("\"{hidden}\" <a@contoso.com>")), ["contoso.com"]);
            prop_assert_eq!(domains(&format!("({hidden}) a@contoso.com")), ["contoso.com"]);
        }
    }
}
