//! Awkward messages, made here and not kept as files.

/// A message, and what is special about it in its name.
pub struct Awkward {
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

/// Size of the largest body.
pub const LARGE: usize = 50 << 20;

const PLAIN: &str = "From: Joe <joe@contoso.com>\r\nTo: ann@receiver.example\r\nSubject: Hello\r\n\
    Message-ID: <1@contoso.com>\r\n";
const MIME: &str = "From: Joe <joe@contoso.com>\r\nTo: ann@receiver.example\r\nSubject: Hello\r\n\
    Message-ID: <1@contoso.com>\r\nMIME-Version: 1.0\r\n";

fn body(name: &'static str, body: impl AsRef<[u8]>) -> Awkward {
    Awkward { name, bytes: [PLAIN.as_bytes(), b"\r\n", body.as_ref()].concat() }
}

fn header(name: &'static str, fields: impl AsRef<[u8]>) -> Awkward {
    Awkward { name, bytes: [fields.as_ref(), b"\r\nbody\r\n"].concat() }
}

fn more(name: &'static str, fields: impl AsRef<[u8]>) -> Awkward {
    header(name, [PLAIN.as_bytes(), fields.as_ref()].concat())
}

fn mime(name: &'static str, rest: impl AsRef<[u8]>) -> Awkward {
    Awkward { name, bytes: [MIME.as_bytes(), rest.as_ref()].concat() }
}

/// Bodies: RFC 6376 §3.4.3 and §3.4.4, and what mail really looks like.
fn bodies() -> Vec<Awkward> {
    vec![
        body("ascii", "Hello Ann,\r\n\r\nbye\r\n"),
        body("empty-body", ""),
        Awkward { name: "header-alone", bytes: PLAIN.as_bytes().to_vec() },
        Awkward { name: "header-without-end", bytes: PLAIN.trim_end().as_bytes().to_vec() },
        body("one-empty-line", "\r\n"),
        body("empty-lines-alone", "\r\n".repeat(10)),
        body("trailing-empty-lines", "text\r\n\r\n\r\n\r\n"),
        body("leading-empty-lines", "\r\n\r\n\r\ntext\r\n"),
        body("trailing-white-lines", "-- \r\nJoe\t \r\n \r\n\t\r\n"),
        body("white-space-alone", "  \t \r\n"),
        body("white-space-without-end", " \t"),
        body("no-final-line-end", "no line end"),
        body("no-final-line-end-white", "no line end \t "),
        body("unix-line-ends", "one\n two\n\nthree \n\n"),
        body("mixed-line-ends", "one\r\ntwo\nthree\r\n\nfour\n"),
        body("bare-cr", "a\rb\r\nc\r\n"),
        body("bare-cr-before-end", "a\r\r\nb\r\n"),
        body("bare-cr-last", "a\r\nb\r"),
        body("bare-cr-alone", "\r"),
        body("white-space-runs", " a  b\t\tc \t d\r\n\te \r\n"),
        body("white-space-inner-lines", "a\r\n \r\n\t\r\n\r\nb\r\n"),
        body("dots", ".\r\n..\r\n.a\r\n...\r\n"),
        body("from-lines", "From me to you\r\n>From you\r\n\r\nFrom: x@y.example\r\n"),
        body("nul", b"a\0b\r\n\0\r\n"),
        body("control-characters", b"\x01\x07\x08\x0b\x0c\x1a\x1b[31m\x7f\r\n"),
        body("form-feed-at-end", "text\x0c\r\n\x0b\r\n"),
        body("latin1", b"Gr\xfc\xdfe aus K\xf6ln\r\n"),
        body("utf8", "Grüße aus Köln — 你好 🦀\r\n"),
        body("utf8-broken", b"\xc3\r\n\xf0\x9f\xa6\r\n\xff\xfe\r\n"),
        body("no-break-space-at-end", "text\u{a0}\r\n\u{a0}\r\n\u{3000}\r\n"),
        body("line-998", format!("{}\r\n", "x".repeat(998))),
        body("line-999", format!("{}\r\n", "x".repeat(999))),
        body("line-2048", format!("{} \r\nb\r\n", "y".repeat(2047))),
        body("line-5000", format!("{} {}\r\n", "x".repeat(2500), "y".repeat(2500))),
        body("line-100000", format!("{}\r\n", "z".repeat(100_000))),
        body("white-space-4000", format!("a{}b\r\nc{}\r\n", " ".repeat(4000), "\t".repeat(4000))),
        body("cut-between-cr-and-lf", format!("{}\r\nb\r\n", "x".repeat(64 * 1024 - 1))),
        body("many-lines", "0123456789 abc \r\n".repeat(60_000)),
        body("empty-lines-100000", format!("a\r\n{}b\r\n", "\r\n".repeat(100_000))),
        body(
            "signature-in-body",
            "DKIM-Signature: v=1; a=rsa-sha256; d=x.example; s=s; h=From; bh=AA==; b=AA==\r\n",
        ),
    ]
}

/// Headers: RFC 6376 §3.4.1, §3.4.2 and §5.4.
fn headers() -> Vec<Awkward> {
    vec![
        header("from-alone", "From: joe@contoso.com\r\n"),
        header(
            "folded",
            "From: \"Doe, Joe\"\r\n <joe@contoso.com>\r\nSubject: a\r\n  folded\r\n subject\r\n",
        ),
        header(
            "tab-folded",
            "From: Joe\r\n\t<joe@contoso.com>\r\nSubject: a\r\n\t\tfolded\r\n\t subject\r\n",
        ),
        header(
            "folded-after-colon",
            "From:\r\n joe@contoso.com\r\nSubject:\r\n\tx\r\nTo:\r\n ann@receiver.example\r\n",
        ),
        header("folded-white-line", "From: joe@contoso.com\r\nSubject: a\r\n \t\r\n b\r\n"),
        header(
            "white-space-runs-in-header",
            "From: joe@contoso.com\r\nSubject:   a \t b\t\t c  \r\nTo:\t ann@receiver.example \r\n",
        ),
        header("no-space-after-colon", "From:joe@contoso.com\r\nSubject:x\r\nTo:ann@receiver.example\r\n"),
        header(
            "names-in-any-case",
            "FROM: joe@contoso.com\r\nsubject: x\r\nMime-version: 1.0\r\nCONTENT-TYPE: text/plain\r\nmessage-id: <1@contoso.com>\r\n",
        ),
        header("empty-fields", "From: joe@contoso.com\r\nSubject:\r\nTo: \r\nMessage-ID:\t\r\n"),
        header(
            "repeated-to",
            "To: first@receiver.example\r\nFrom: joe@contoso.com\r\nTo: second@receiver.example\r\nSubject: x\r\n",
        ),
        header(
            "repeated-subject",
            "Subject: one\r\nFrom: joe@contoso.com\r\nSubject: two\r\nsubject: three\r\n",
        ),
        more("repeated-received", "Received: from a by b; x\r\nReceived: from c by d;\r\n\ty\r\n"),
        more(
            "long-header",
            format!("References: {}\r\n", "<0123456789abcdef@contoso.com>\r\n ".repeat(400).trim_end()),
        ),
        more("many-headers", (0..500).map(|n| format!("X-Header-{n}: {n}\r\n")).collect::<String>()),
        header(
            "long-subject-line",
            format!("From: joe@contoso.com\r\nSubject: {}\r\n", "word ".repeat(190).trim_end()),
        ),
        header("subject-998", format!("From: joe@contoso.com\r\nSubject: {}\r\n", "x".repeat(989))),
        header("subject-4000", format!("From: joe@contoso.com\r\nSubject: {}\r\n", "x".repeat(4000))),
        header("eai", "From: Jö <jö@contoso.com>\r\nTo: 任@receiver.example\r\nSubject: Grüße 你好\r\n"),
        header("eai-domain", "From: Jö <jö@bücher.example>\r\nTo: ann@receiver.example\r\nSubject: x\r\n"),
        header(
            "encoded-words",
            "From: =?UTF-8?Q?J=C3=B6e?= <joe@contoso.com>\r\nSubject: =?utf-8?B?R3LDvMOfZQ==?=\r\n =?utf-8?Q?_aus?=\r\n",
        ),
        header("latin1-header", b"From: J\xf6 <joe@contoso.com>\r\nSubject: Gr\xfc\xdfe\r\n"),
        header(
            "comments-in-from",
            "From: (c) Joe (a (nested) one) <joe@contoso.com> (end)\r\nSubject: x\r\n",
        ),
        header(
            "several-authors",
            "From: Joe <joe@contoso.com>, Eve <eve@other.example>\r\nSender: joe@contoso.com\r\nSubject: x\r\n",
        ),
        header("group-in-from", "From: Team: joe@contoso.com;\r\nSubject: x\r\n"),
        more(
            "list-fields",
            "List-Id: <l.contoso.com>\r\nList-Unsubscribe: <mailto:u@contoso.com>,\r\n <https://contoso.com/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Post: NO\r\nPrecedence: list\r\n",
        ),
        more(
            "resent",
            "Resent-From: x@other.example\r\nResent-To: y@other.example\r\nResent-Date: Wed, 1 Jan 2025 00:00:00 +0000\r\nResent-Message-ID: <r@other.example>\r\n",
        ),
        more("odd-names", "X-1.2_3!#$%&'*+-/=?^`{|}~: x\r\nA: 1\r\n"),
        more(
            "verdicts-of-others",
            "Authentication-Results: mx.other.example; dkim=fail header.d=contoso.com\r\nReceived-SPF: pass\r\nReturn-Path: <>\r\n",
        ),
        more(
            "bcc-and-reply-to",
            "Bcc:\r\nReply-To: \"a, b\" <r@contoso.com>\r\nCc: c@receiver.example,\r\n\td@receiver.example\r\n",
        ),
    ]
}

fn nested(depth: usize) -> String {
    if depth == 0 {
        return "Content-Type: text/plain\r\n\r\nthe innermost part\r\n".to_owned();
    }
    let inner = nested(depth - 1);
    format!(
        "Content-Type: multipart/mixed; boundary=\"b{depth}\"\r\n\r\n--b{depth}\r\n{inner}\r\n--b{depth}--\r\n"
    )
}

/// Structures: what mail systems themselves send, too.
fn structures() -> Vec<Awkward> {
    vec![
        mime("alternative", "Content-Type: multipart/alternative; boundary=b\r\n\r\npreamble\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\nepilogue\r\n\r\n"),
        mime("nested-20", nested(20)),
        mime("without-closing-boundary", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx"),
        mime("attached-message", "Content-Type: message/rfc822\r\n\r\nDKIM-Signature: v=1; a=rsa-sha256; d=x.example; s=s; h=From; bh=AA==; b=AA==\r\nFrom: eve@x.example\r\nSubject: inner\r\n\r\ninner\r\n"),
        mime("base64", format!("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n{}", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM=\r\n".repeat(200))),
        mime("quoted-printable", "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe, soft=\r\n break=20\r\n=\r\n"),
        mime("binary", [b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n".as_slice(), &(1..=255).filter(|b| *b != b'\r' && *b != b'\n').collect::<Vec<u8>>(), b"\r\n"].concat()),
        mime("signed-smime", "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256;\r\n boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nx \r\n--b\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n"),
        mime("pgp-inline", "Content-Type: text/plain\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\n- -----x\r\n-- \r\n-----BEGIN PGP SIGNATURE-----\r\n\r\nAAAA\r\n-----END PGP SIGNATURE-----\r\n"),
        mime("calendar", "Content-Type: text/calendar; method=REQUEST; charset=utf-8\r\n\r\nBEGIN:VCALENDAR\r\nSUMMARY:a long\r\n  folded line\r\nEND:VCALENDAR\r\n"),
        Awkward { name: "dsn", bytes: b"Return-Path: <>\r\nFrom: Mail Delivery <MAILER-DAEMON@contoso.com>\r\nTo: joe@receiver.example\r\nAuto-Submitted: auto-replied\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"b1\"\r\nMessage-ID: <1@contoso.com>\r\n\r\n--b1\r\nContent-Type: text/plain\r\n\r\nIt bounced.\r\n\r\n--b1\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.contoso.com\r\n\r\nFinal-Recipient: rfc822; x@y.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b1\r\nContent-Type: text/rfc822-headers\r\n\r\nFrom: joe@receiver.example\r\n\r\n--b1--\r\n".to_vec() },
        Awkward { name: "read-receipt", bytes: b"From: ann@contoso.com\r\nTo: joe@receiver.example\r\nSubject: Read\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n--b\r\n\r\nRead.\r\n--b\r\nContent-Type: message/disposition-notification\r\n\r\nFinal-Recipient: rfc822;ann@contoso.com\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n--b--\r\n".to_vec() },
        Awkward { name: "abuse-report", bytes: b"From: abuse@contoso.com\r\nTo: fbl@receiver.example\r\nSubject: FW\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n--b--\r\n".to_vec() },
        Awkward { name: "vacation", bytes: b"From: ann@contoso.com\r\nTo: joe@receiver.example\r\nSubject: Re: Hello\r\nAuto-Submitted: auto-replied (vacation)\r\nPrecedence: bulk\r\nX-Auto-Response-Suppress: All\r\nIn-Reply-To: <2@receiver.example>\r\nReferences: <1@receiver.example>\r\n <2@receiver.example>\r\n\r\nI am away.\r\n".to_vec() },
    ]
}

/// All of them but the large one.
pub fn all() -> Vec<Awkward> {
    let mut all = bodies();
    all.extend(headers());
    all.extend(structures());
    all
}

/// A body of 50 MB, with every kind of line in it.
pub fn large() -> Awkward {
    let piece = "0123456789 abcdef \t  x\r\n\r\n \r\nAAAA=\r\n";
    body("body-50-mb", piece.repeat(LARGE / piece.len() + 1))
}

/// What is refused, with the words that say why.
pub fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let own = |text: &str| text.as_bytes().to_vec();
    vec![
        ("nothing", own(""), "no From: field"),
        ("no-from", own("To: ann@receiver.example\r\n\r\nx\r\n"), "no From: field"),
        ("two-froms", own("From: joe@contoso.com\r\nFrom: eve@contoso.com\r\n\r\nx\r\n"), "2 From: fields"),
        ("empty-from", own("From:\r\n\r\nx\r\n"), "no mailbox"),
        ("from-without-domain", own("From: joe\r\n\r\nx\r\n"), "no mailbox"),
        ("undisclosed-from", own("From: undisclosed:;\r\n\r\nx\r\n"), "no mailbox"),
        ("nul-in-from", own("From: joe@conto\0so.com\r\n\r\nx\r\n"), "no mailbox"),
        (
            "mbox",
            own("From joe@contoso.com Thu Jan  1 00:00:00 1970\r\nFrom: joe@contoso.com\r\n\r\nx\r\n"),
            "mbox",
        ),
        (
            "line-without-colon",
            own("From: joe@contoso.com\r\nhello\r\n\r\nx\r\n"),
            "line 2 is no header field",
        ),
        ("begins-with-fold", own(" x\r\nFrom: joe@contoso.com\r\n\r\nx\r\n"), "line 1 is no header field"),
        (
            "space-before-colon",
            own("From: joe@contoso.com\r\nSubject : x\r\n\r\nx\r\n"),
            "Subject has white space before its colon",
        ),
        (
            "bare-cr-in-header",
            own("From: joe@contoso.com\r\nSubject: a\rb\r\n\r\nx\r\n"),
            "Subject has a carriage return of its own",
        ),
        (
            "nul-in-header",
            own("From: joe@contoso.com\r\nSubject: a\0b\r\n\r\nx\r\n"),
            "Subject has a NUL byte",
        ),
        ("somebody-else", own("From: eve@other.example\r\n\r\nx\r\n"), "no keys for other.example"),
        ("subdomain", own("From: joe@sub.contoso.com\r\n\r\nx\r\n"), "no keys for sub.contoso.com"),
        (
            "header-too-large",
            [b"From: joe@contoso.com\r\nX: ".as_slice(), &vec![b'x'; 2 << 20], b"\r\n\r\nx\r\n"].concat(),
            "larger than",
        ),
    ]
}
