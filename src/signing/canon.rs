//! Canonicalisation (RFC 6376 §3.4): what is hashed and signed of a header field and of a body.
//!
//! White space is space and tab and nothing else, a carriage return on its own is a character like any other,
//! and a line of white space at the end of a relaxed body is an empty line: verifiers agree on these.

use crate::api::Canonicalization;

/// What takes canonical bytes: a hash, or a buffer in tests.
pub trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for aws_lc_rs::digest::Context {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Canonical bytes are handed on in pieces of about this size.
const PIECE: usize = 4096;

/// The canonical form of a body, made as the body streams by (RFC 6376 §3.4.3, §3.4.4). Its memory does not
/// grow with the body. A line may end in LF alone: on the wire it will be CRLF.
#[derive(Debug, Clone)]
pub struct BodyCanonicalizer<S> {
    mode: Canonicalization,
    sink: S,
    buffer: Vec<u8>,
    /// The last byte was a CR whose meaning the next byte tells.
    cr: bool,
    /// Line ends that are written only if something follows.
    line_ends: u64,
    /// Relaxed: white space that is written (as one space) only if something follows on the line.
    space: bool,
    /// Whether anything has been written.
    any: bool,
}

impl<S: Sink> BodyCanonicalizer<S> {
    /// Begins with an empty body.
    pub fn new(mode: Canonicalization, sink: S) -> Self {
        Self {
            mode,
            sink,
            buffer: Vec::with_capacity(PIECE),
            cr: false,
            line_ends: 0,
            space: false,
            any: false,
        }
    }

    /// Takes the next bytes of the body; chunks may end anywhere, also between CR and LF.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let between_lines = !self.cr && !self.space;
            let (line, after) = match memchr::memchr(b'\n', rest) {
                Some(end) => rest.split_at(end + 1),
                None => (rest, &[][..]),
            };
            match line.strip_suffix(b"\r\n").filter(|text| between_lines && self.stays(text)) {
                Some(text) => {
                    self.content(text);
                    self.line_ends += 1;
                }
                None => self.feed_slowly(line),
            }
            rest = after;
        }
    }

    /// Whether the text of a line (or of its end) is canonical as it is, which most are: it is not empty and, where
    /// relaxed, has no tab, no two white spaces in a row, and none at its end.
    fn stays(&self, text: &[u8]) -> bool {
        let Some((last, before)) = text.split_last() else { return false };
        if self.mode == Canonicalization::Simple {
            return true;
        }
        let space = |b: u8| (b == b' ') | (b == b'\t');
        // Nothing ends it early, so that it is done for many bytes at once.
        let odd = before
            .iter()
            .zip(&text[1..])
            .fold(false, |odd, (one, next)| odd | (*one == b'\t') | (space(*one) & space(*next)));
        !odd && !space(*last)
    }

    fn feed_slowly(&mut self, chunk: &[u8]) {
        let relaxed = self.mode == Canonicalization::Relaxed;
        let special = |b: &u8| matches!(b, b'\r' | b'\n') || relaxed && matches!(b, b' ' | b'\t');
        let mut rest = chunk;
        while let Some((first, tail)) = rest.split_first() {
            if std::mem::take(&mut self.cr) && *first != b'\n' {
                self.content(b"\r");
            }
            match first {
                b'\r' => self.cr = true,
                b'\n' => {
                    self.space = false;
                    self.line_ends += 1;
                }
                b' ' | b'\t' if relaxed => self.space = true,
                _ => {
                    let (run, after) = rest.split_at(rest.iter().position(special).unwrap_or(rest.len()));
                    self.content(run);
                    rest = after;
                    continue;
                }
            }
            rest = tail;
        }
    }

    /// Ends the body and gives the sink back.
    pub fn finish(mut self) -> S {
        if std::mem::take(&mut self.cr) {
            self.content(b"\r");
        }
        // Simple: an empty body is one CRLF. Relaxed: it is nothing (RFC 6376 §3.4.3, §3.4.4).
        if self.any || self.mode == Canonicalization::Simple {
            self.write(b"\r\n");
        }
        self.sink.put(&self.buffer);
        self.sink
    }

    fn content(&mut self, run: &[u8]) {
        while self.line_ends > 0 {
            self.line_ends -= 1;
            self.write(b"\r\n");
        }
        if std::mem::take(&mut self.space) {
            self.write(b" ");
        }
        self.any = true;
        self.write(run);
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > PIECE {
            self.sink.put(&self.buffer);
            self.buffer.clear();
        }
        if bytes.len() > PIECE {
            self.sink.put(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }
}

/// Appends the canonical form of one header field, with its CRLF (RFC 6376 §3.4.1, §3.4.2). `value` is what
/// stands behind the colon, folds as CRLF, without the final CRLF.
pub fn canonical_field(mode: Canonicalization, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match mode {
        Canonicalization::Simple => {
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(value);
        }
        Canonicalization::Relaxed => {
            out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
            out.push(b':');
            relaxed_value(value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn relaxed_value(value: &[u8], out: &mut Vec<u8>) {
    let (mut begun, mut space) = (false, false);
    let mut rest = value;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'\r' && tail.first() == Some(&b'\n') {
            continue;
        }
        match first {
            b'\n' => {}
            b' ' | b'\t' => space = true,
            other => {
                if begun && space {
                    out.push(b' ');
                }
                (begun, space) = (true, false);
                out.push(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Canonicalization::{Relaxed, Simple};
    use proptest::prelude::*;

    fn body(mode: Canonicalization, chunks: &[&[u8]]) -> Vec<u8> {
        let mut canon = BodyCanonicalizer::new(mode, Vec::new());
        chunks.iter().for_each(|c| canon.feed(c));
        canon.finish()
    }

    fn field(mode: Canonicalization, name: &str, value: &str) -> String {
        let mut out = Vec::new();
        canonical_field(mode, name.as_bytes(), value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// RFC 6376 §3.4.5, the examples.
    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(field(Relaxed, "A", " X"), "a:X\r\n");
        assert_eq!(field(Relaxed, "B ", " Y\t\r\n\tZ  "), "b:Y Z\r\n");
        assert_eq!(field(Simple, "B ", " Y\t\r\n\tZ  "), "B : Y\t\r\n\tZ  \r\n");
        let text = b" C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(body(Relaxed, &[text]), b" C\r\nD E\r\n");
        assert_eq!(body(Simple, &[text]), b" C \r\nD \t E\r\n");
    }

    #[test]
    fn corners_of_bodies() {
        for (text, relaxed, simple) in [
            ("", "", "\r\n"),
            ("\r\n", "", "\r\n"),
            ("\r\n\r\n", "", "\r\n"),
            (" \r\n", "", " \r\n"),
            (" ", "", " \r\n"),
            ("abc", "abc\r\n", "abc\r\n"),
            ("abc\n", "abc\r\n", "abc\r\n"),
            ("a\nb\r\n\n", "a\r\nb\r\n", "a\r\nb\r\n"),
            ("abc\r\n \r\n", "abc\r\n", "abc\r\n \r\n"),
            ("abc\r\n\t\r\nd", "abc\r\n\r\nd\r\n", "abc\r\n\t\r\nd\r\n"),
            ("a\rb", "a\rb\r\n", "a\rb\r\n"),
            ("a\r\r\n", "a\r\r\n", "a\r\r\n"),
            ("a\r", "a\r\r\n", "a\r\r\n"),
            ("a\x0c b", "a\x0c b\r\n", "a\x0c b\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&body(Relaxed, &[text.as_bytes()])), relaxed, "{text:?}");
            assert_eq!(String::from_utf8_lossy(&body(Simple, &[text.as_bytes()])), simple, "{text:?}");
        }
    }

    #[test]
    fn long_runs_pass_through() {
        let long = vec![b'x'; 3 * PIECE + 1];
        assert_eq!(body(Relaxed, &[&long, b"\r\n"]), [&long[..], b"\r\n"].concat());
    }

    /// A slow and obvious relaxed form to compare with.
    fn slow_relaxed(text: &str) -> String {
        let lines = text.replace("\r\n", "\n");
        let mut lines: Vec<String> = lines
            .split('\n')
            .map(|line| {
                let words = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
                let indented = line.starts_with([' ', '\t']) && !words.is_empty();
                if indented { format!(" {words}") } else { words }
            })
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.iter().map(|line| format!("{line}\r\n")).collect()
    }

    proptest! {
        #[test]
        fn relaxed_is_as_defined(text in "([a-c \t\r\n]|\r\n){0,40}") {
            prop_assert_eq!(String::from_utf8(body(Relaxed, &[text.as_bytes()])).unwrap(), slow_relaxed(&text));
        }

        #[test]
        fn chunks_do_not_matter(text in "([ab \t\r\n]|\r\n){0,60}", at in 0usize..60, relaxed: bool) {
            let mode = if relaxed { Relaxed } else { Simple };
            let (one, two) = text.as_bytes().split_at(at.min(text.len()));
            prop_assert_eq!(body(mode, &[one, two]), body(mode, &[text.as_bytes()]));
        }

        #[test]
        fn canonical_is_stable(text in "([ab \t]|\r\n){0,60}", relaxed: bool) {
            let mode = if relaxed { Relaxed } else { Simple };
            let once = body(mode, &[text.as_bytes()]);
            prop_assert_eq!(body(mode, &[&once]), once);
        }

        #[test]
        fn folding_does_not_matter_when_relaxed(words in proptest::collection::vec("[a-z]{1,8}", 1..8)) {
            prop_assert_eq!(
                field(Relaxed, "Subject", &words.join("\r\n\t ")),
                field(Relaxed, "subject ", &format!("  {} ", words.join(" "))),
            );
        }
    }
}
