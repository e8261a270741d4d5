use super::*;
use crate::api::Canonicalization;
use crate::milter::testing::mta::{self, Answer};
use crate::milter::testing::{Records, metric, policy, shared, verdicts};
use crate::milter::wire::Decoder;
use crate::model::key::KeyKind;
use crate::signing::testing::{KeyDir, edit_json};
use crate::signing::{KeyStore, Verdict};
use proptest::prelude::*;
use std::sync::OnceLock;

const MESSAGE: &str = "From: Joe <joe@contoso.com>\r\nTo: ann@fabrikam.com\r\nSubject: a folded\r\n\tsubject\r\n\r\nHello  Ann\r\n\r\n";

struct Bench {
    dir: KeyDir,
    records: Records,
}

/// contoso.com with two signatures, and others.
fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let dir = KeyDir::new();
        let kinds = [KeyKind::Rsa2048, KeyKind::Ed25519];
        let records = dir.domain_with("contoso", "contoso.com", &kinds, |config| {
            config.header_canonicalization = match config.s.as_str() {
                "selector1" => Canonicalization::Simple,
                _ => Canonicalization::Relaxed,
            };
        });
        dir.domain("empty", "empty.com", &[]);
        dir.domain("broken", "broken.com", &[KeyKind::Ed25519]);
        std::fs::remove_file(dir.path().join("broken/selector1.pem")).unwrap();
        Bench { dir, records }
    })
}

fn with(policy: Policy) -> Arc<Shared> {
    shared(Some(KeyStore::load(bench().dir.path()).unwrap()), policy)
}

/// Everything a session answers, in chunks as they come.
fn converse(shared: &Arc<Shared>, chunks: &[&[u8]]) -> Result<Vec<Answer>, ProtocolError> {
    let (mut session, mut decoder) = (Session::new(Arc::clone(shared)), Decoder::default());
    let (mut input, mut output) = (Vec::new(), Vec::new());
    'all: for chunk in chunks {
        input.extend_from_slice(chunk);
        let mut at = 0;
        while let Some((packet, used)) = decoder.next(&input[at..])? {
            at += used;
            if session.take(packet, &mut output)? == Flow::Close {
                break 'all;
            }
        }
        input.drain(..at);
    }
    Ok(mta::answers(&mut output))
}

fn codes(answers: &[Answer]) -> String {
    answers.iter().map(|answer| char::from(answer.command)).collect()
}

fn local(text: &str) -> Vec<u8> {
    [mta::negotiate(mta::POSTFIX), mta::connect("127.0.0.1"), mta::message(text)].concat()
}

/// The answers to a message from a trusted client, the negotiation left out.
fn answers(shared: &Arc<Shared>, text: &str) -> Vec<Answer> {
    converse(shared, &[&local(text)]).unwrap().split_off(1)
}

#[test]
fn a_message_takes_one_round_trip_and_verifies() {
    let shared = with(policy());
    let answers = answers(&shared, MESSAGE);
    assert_eq!(codes(&answers), "iic");
    let signed = mta::apply(&answers, MESSAGE);
    assert_eq!(verdicts(&bench().records, &signed), [Verdict::Pass; 2], "{signed}");
    // In the order of the configuration.
    assert!(signed.starts_with("DKIM-Signature: v=1; a=rsa-sha256;"), "{signed}");
    assert_eq!(metric(&shared.counters, "milter_messages_signed_total"), 1);
    // A second pass adds nothing.
    assert_eq!(codes(&self::answers(&shared, &signed)), "c");
    assert_eq!(metric(&shared.counters, "milter_messages_skipped_total{reason=\"already_signed\"}"), 1);
}

#[test]
fn what_sendmail_will_change_is_not_signed() {
    let shared = with(policy());
    let text = "From: Joe <joe@contoso.com>\r\nTo: a@x.example,b@y.example\r\nSubject: x\r\n\r\nhello\r\n";
    let said = |version: &str, text: &str| {
        let version = mta::macros(b'C', &[("j", "mx"), ("v", version)]);
        let bytes = [mta::negotiate(mta::POSTFIX), version, mta::connect("127.0.0.1"), mta::message(text)];
        converse(&shared, &[&bytes.concat()]).unwrap().split_off(1)
    };
    let signed = mta::apply(&said("Postfix 3.7.11", text), text);
    assert!(signed.contains("h=From:To:Message-ID:Subject:MIME-Version:Content-Type;"), "{signed}");
    let signed = mta::apply(&said("8.17.1.9", text), text);
    assert!(signed.contains("h=From:Subject:MIME-Version:Content-Type;"), "{signed}");
    let changed =
        signed.replace("example,b@", "example, b@").replace("\r\nFrom:", "\r\nMessage-Id: <1@mx>\r\nFrom:");
    assert_eq!(verdicts(&bench().records, &changed), [Verdict::Pass; 2], "{changed}");
    // One of the two is asked for in simple canonicalization, which folds made anew would break.
    let folded = changed.replace("From: Joe <", "From:   Joe\r\n <").replace("Subject: x", "Subject:  x");
    assert_eq!(verdicts(&bench().records, &folded), [Verdict::Pass; 2], "{folded}");
    let from = text.replace("Joe <", "joe@contoso.com <");
    assert_eq!(codes(&said("8.17.1.9", &from)), "c");
    assert_eq!(metric(&shared.counters, "milter_messages_skipped_total{reason=\"unsignable\"}"), 1);
}

#[test]
fn an_old_mta_is_answered_step_by_step() {
    let shared = with(policy());
    let bytes = local(MESSAGE);
    let bytes = [mta::negotiate(mta::OLD), bytes[mta::negotiate(mta::POSTFIX).len()..].to_vec()].concat();
    let mut answers = converse(&shared, &[&bytes]).unwrap();
    assert_eq!(answers.remove(0).data, [2, 1, 0xa].map(u32::to_be_bytes).concat());
    // CONNECT, MAIL, RCPT, DATA, three fields, end of header, one piece of body.
    assert_eq!(codes(&answers), "ccccccccciic");
    // Without the leading space its value is "v=1", and the MTA supplies the space; here our test does.
    let signed = mta::apply(&answers, MESSAGE).replace("DKIM-Signature:v", "DKIM-Signature: v");
    let relaxed = &verdicts(&bench().records, &signed)[1];
    assert_eq!(*relaxed, Verdict::Pass, "{signed}");
}

#[test]
fn an_old_mta_that_strips_the_space_verifies_as_well() {
    let shared = with(policy());
    let bytes = local(&MESSAGE.replace(": ", ":"));
    let bytes = [mta::negotiate(mta::OLD), bytes[mta::negotiate(mta::POSTFIX).len()..].to_vec()].concat();
    let answers = converse(&shared, &[&bytes]).unwrap();
    let signed = mta::apply(&answers, MESSAGE).replace("DKIM-Signature:v", "DKIM-Signature: v");
    assert_eq!(verdicts(&bench().records, &signed), [Verdict::Pass; 2], "{signed}");
}

#[test]
fn whose_mail_is_ours() {
    let shared = with(policy());
    let start = mta::negotiate(mta::POSTFIX);
    let outside = mta::connect("192.0.2.1");
    let local = mta::connect("127.0.0.1");
    let message = mta::message(MESSAGE);
    let says = |parts: &[&[u8]]| codes(&converse(&shared, &[&start, &parts.concat()]).unwrap()[1..]);
    let auth = mta::macros(b'M', &[("i", "ABC"), ("{auth_authen}", "joe")]);
    let no_auth = mta::macros(b'M', &[("i", "ABC"), ("{mail_addr}", "joe@contoso.com")]);
    let daemon = mta::macros(b'C', &[("j", "mx"), ("{daemon_name}", "ORIGINATING")]);
    assert_eq!(says(&[&local, &message]), "iic");
    assert_eq!(says(&[&outside, &message]), "c");
    assert_eq!(says(&[&outside, &auth, &message]), "iic");
    assert_eq!(says(&[&outside, &no_auth, &message]), "c");
    assert_eq!(says(&[&daemon, &outside, &message]), "iic");
    assert_eq!(says(&[&message]), "c", "nobody said who the client is");
    // What a message had does not count for the next, nor a connection for the next one on it.
    assert_eq!(says(&[&outside, &auth, &message, &no_auth, &message]), "iicc");
    assert_eq!(says(&[&outside, &auth, &message, &message]), "iicc");
    assert_eq!(says(&[&outside, &auth, &mta::packet(b'A', b""), &message]), "c");
    assert_eq!(says(&[&daemon, &local, &mta::packet(b'K', b""), &outside, &message]), "c");
    assert_eq!(says(&[&daemon, &outside, &message, &message]), "iiciic");
    let unix = mta::packet(b'C', b"localhost\0U");
    assert_eq!(says(&[&unix, &message]), "iic");
}

#[test]
fn other_domains_are_left_alone() {
    let shared = with(policy());
    for from in ["joe@fabrikam.com", "joe@sub.contoso.com", "\"joe@contoso.com\" <joe@fabrikam.com>"] {
        let text = MESSAGE.replace("Joe <joe@contoso.com>", from);
        assert_eq!(codes(&answers(&shared, &text)), "c", "{from}");
    }
    assert_eq!(metric(&shared.counters, "milter_messages_skipped_total{reason=\"domain_not_ours\"}"), 3);
    let several =
        MESSAGE.replace("From: Joe <joe@contoso.com>", "From: a@fabrikam.com, Team: b@contoso.com;");
    assert_eq!(codes(&answers(&shared, &several)), "iic");
}

#[test]
fn what_cannot_be_signed_is_deferred_or_let_through() {
    let fails = |shared: &Arc<Shared>, domain: &str| answers(shared, &MESSAGE.replace("contoso.com", domain));
    for (domain, reason) in [("empty.com", "no_key"), ("broken.com", "unreadable")] {
        let strict = with(policy());
        let answers = fails(&strict, domain);
        assert!(answers[0].smtp().unwrap().starts_with("451 4.7.0 "), "{answers:?}");
        let counter = format!("milter_messages_failed_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&strict.counters, &counter), 1);
        let lax = with(Policy { on_failure: OnFailure::Accept, ..policy() });
        assert_eq!(codes(&fails(&lax, domain)), "c");
        assert_eq!(metric(&lax.counters, &counter), 1);
    }
    let unloaded = shared(None, policy());
    assert!(fails(&unloaded, "contoso.com")[0].smtp().unwrap().starts_with("451 4.7.0 "));
    assert_eq!(metric(&unloaded.counters, "milter_messages_failed_total{reason=\"not_loaded\"}"), 1);
    // Mail from outside goes through even then.
    let outside = [mta::negotiate(mta::POSTFIX), mta::connect("192.0.2.1"), mta::message(MESSAGE)].concat();
    assert_eq!(codes(&converse(&unloaded, &[&outside]).unwrap()), "Oc");
}

#[test]
fn a_message_without_one_author_is_told_or_refused() {
    let large = format!("X-Large: {}\r\n{MESSAGE}", "x".repeat(600_000))
        .replace("To:", &format!("Y: {}\r\nTo:", "y".repeat(600_000)));
    for (text, why) in [
        (MESSAGE.replace("From:", "X-From:"), "no From: field"),
        (format!("From: eve@evil.example\r\n{MESSAGE}"), "2 From: fields"),
        (MESSAGE.replace("joe@contoso.com", "joe"), "no mailbox with a domain"),
        (MESSAGE.replace("Subject:", "Sub ject:"), "name that RFC 5322 does not allow"),
        (large, "larger than"),
    ] {
        let lax = with(policy());
        assert_eq!(codes(&answers(&lax, &text)), "c", "{why}");
        assert_eq!(metric(&lax.counters, "milter_messages_skipped_total{reason=\"unsignable\"}"), 1);
        let strict = with(Policy { on_unsignable: OnUnsignable::Reject, ..policy() });
        let refusal = answers(&strict, &text)[0].smtp().unwrap();
        assert!(refusal.starts_with("550 5.6.0 ") && refusal.contains(why), "{refusal}");
    }
}

#[test]
fn keys_that_change_under_a_message_are_taken_up() {
    let dir = KeyDir::new();
    dir.domain("", "a.com", &[KeyKind::Ed25519]);
    let shared = shared(Some(KeyStore::load(dir.path()).unwrap()), policy());
    let text = MESSAGE.replace("contoso.com", "a.com");
    let bytes = local(&text);
    let (most, end) = bytes.split_at(bytes.len() - 5);
    let (mut session, mut decoder, mut output) =
        (Session::new(Arc::clone(&shared)), Decoder::default(), Vec::new());
    let mut feed = |mut bytes: &[u8]| {
        while let Some((packet, used)) = decoder.next(bytes).unwrap() {
            bytes = &bytes[used..];
            session.take(packet, &mut output).unwrap();
        }
    };
    feed(most);
    let records = dir.domain("", "a.com", &[KeyKind::Ed25519]);
    shared.keys.exchange(KeyStore::load(dir.path()).unwrap());
    feed(end);
    let signed = mta::apply(&mta::answers(&mut output), &text);
    assert_eq!(verdicts(&records, &signed), [Verdict::Pass]);
    // With options that the body was not hashed for it ends as it began.
    edit_json(dir.path(), |json| json["signatures"][0]["bodyCanonicalization"] = "simple".into());
}

#[test]
fn bodies_that_nobody_needs_are_declined() {
    let shared = with(policy());
    // An MTA that offers to skip, and waits for every reply.
    let start = mta::negotiate((6, 0x1ff, 0x400));
    let unwanted =
        [start, mta::connect("192.0.2.1"), mta::mail(), mta::field("From", " joe@contoso.com")].concat();
    let at_header = [unwanted.clone(), mta::packet(b'N', b"")].concat();
    assert_eq!(codes(&converse(&shared, &[&at_header]).unwrap()), "Occca");
    let at_body = [unwanted, mta::packet(b'B', b"x\r\n"), mta::packet(b'E', b"")].concat();
    assert_eq!(codes(&converse(&shared, &[&at_body]).unwrap()), "Occcsc");
}

#[test]
fn what_is_out_of_order_ends_the_connection() {
    let shared = with(policy());
    let start = mta::negotiate(mta::POSTFIX);
    let fault = |parts: &[&[u8]]| converse(&shared, parts).unwrap_err();
    assert_eq!(fault(&[&mta::mail()]), ProtocolError::Order("a command"));
    assert_eq!(fault(&[&start, &start]), ProtocolError::Order("a negotiation"));
    assert_eq!(fault(&[&mta::negotiate((1, 1, 0))]), ProtocolError::Version(1));
    // To leave is always allowed, and nothing is answered after that.
    assert_eq!(codes(&converse(&shared, &[&mta::packet(b'Q', b""), &start]).unwrap()), "");
    assert_eq!(codes(&converse(&shared, &[&start, &mta::packet(b'Q', b""), &mta::mail()]).unwrap()), "O");
}

/// Any order of commands, complete or not: no panic, and one reply for each end of a message.
fn commands() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(vec![
        mta::connect("127.0.0.1"),
        mta::connect("192.0.2.1"),
        mta::macros(b'M', &[("{auth_authen}", "joe")]),
        mta::packet(b'H', b"x\0"),
        mta::mail(),
        mta::packet(b'R', b"<a@b.c>\0"),
        mta::packet(b'T', b""),
        mta::packet(b'U', b"XYZ\0"),
        mta::field("From", " joe@contoso.com"),
        mta::field("Subject", " x"),
        mta::packet(b'N', b""),
        mta::packet(b'B', b"hello\r\n"),
        mta::packet(b'E', b""),
        mta::packet(b'E', b"bye\r\n"),
        mta::packet(b'A', b""),
        mta::packet(b'K', b""),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_order_is_answered(commands in proptest::collection::vec(commands(), 0..14), old: bool) {
        static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| with(policy()));
        let offer = if old { mta::OLD } else { mta::POSTFIX };
        let bytes = [mta::negotiate(offer), commands.concat()].concat();
        let answers = converse(shared, &[&bytes]).unwrap();
        let code = |bytes: &Vec<u8>| bytes[4];
        let silent = |c: u8| matches!(c, b'D' | b'A' | b'K');
        let due = commands.iter().map(code).filter(|c| if old { !silent(*c) } else { *c == b'E' }).count();
        let replies = answers.iter().filter(|a| matches!(a.command, b'c' | b'a' | b'y' | b's' | b't'));
        prop_assert_eq!(replies.count(), due);
    }
}
