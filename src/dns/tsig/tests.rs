use super::*;
use crate::dns::query::read;

const KEYS: &str =
    "transfer.example:MDEyMzQ1Njc4OWFiY2RlZg==\nhmac-sha512:Other.Example:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\n";
const NOW: u64 = 1_800_000_000;

fn query() -> Vec<u8> {
    b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x01x\x07example\0\0\xfc\0\x01".to_vec()
}

fn signed(keys: &Keys, number: usize, time: u64) -> Vec<u8> {
    let mut message = query();
    Session::begin(Arc::clone(&keys.0[number]), [0x12, 0x34]).sign(&mut message, time);
    message
}

fn checked(message: &[u8], keys: &Keys) -> Checked {
    check(&read(message).unwrap(), keys, NOW)
}

fn error(checked: Checked) -> u16 {
    match checked {
        Checked::Good(_) => 0,
        Checked::Bad(refusal) => refusal.error,
        Checked::Malformed => 1,
    }
}

#[test]
fn what_was_signed_is_good() {
    let keys = Keys::parse(KEYS).unwrap();
    for number in 0..2 {
        let message = signed(&keys, number, NOW - 300);
        assert_eq!(error(checked(&message, &keys)), 0);
        let Checked::Good(session) = checked(&message, &keys) else { panic!() };
        assert_eq!(message.len(), query().len() + session.length());
    }
}

#[test]
fn what_was_changed_is_not() {
    let keys = Keys::parse(KEYS).unwrap();
    let whole = signed(&keys, 0, NOW);
    let mac = whole.len() - 6 - 32;
    for at in [2, 13, query().len() - 1, mac, mac + 31] {
        let mut message = whole.clone();
        message[at] ^= 1;
        if let Ok(query) = read(&message) {
            assert_eq!(error(check(&query, &keys, NOW)), BAD_SIG, "{at}");
        }
    }
    let other = Keys::parse("third.example:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
    assert_eq!(error(checked(&signed(&other, 0, NOW), &keys)), BAD_KEY);
    let algorithm = Keys::parse("hmac-sha384:transfer.example:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
    assert_eq!(error(checked(&signed(&algorithm, 0, NOW), &keys)), BAD_KEY);
    assert_eq!(error(checked(&signed(&keys, 0, NOW - 301), &keys)), BAD_TIME);
    assert_eq!(error(checked(&signed(&keys, 0, NOW + 301), &keys)), BAD_TIME);
}

#[test]
fn scraps_are_malformed() {
    let keys = Keys::parse(KEYS).unwrap();
    let whole = signed(&keys, 0, NOW);
    let begin = query().len();
    // The length of the data, shorter and longer than what it holds.
    let place = begin + keys.0[0].name.len() + 9;
    for change in [-1i8, -40] {
        let mut message = whole.clone();
        message[place] = message[place].wrapping_add_signed(change);
        message.truncate(message.len().wrapping_add_signed(change.into()));
        assert_eq!(error(checked(&message, &keys)), 1, "{change}");
    }
    let mut class = whole;
    class[begin + keys.0[0].name.len() + 3] = 1;
    assert_eq!(error(checked(&class, &keys)), 1);
}

#[test]
fn faults_name_the_line_and_keep_the_secret() {
    let say = |text: &str| Keys::parse(text).unwrap_err().to_string();
    let all = [
        say("transfer.example"),
        say("# a comment\n\nhmac-md5:transfer.example:MDEyMzQ1Njc4OWFiY2RlZg=="),
        say("two..dots:MDEyMzQ1Njc4OWFiY2RlZg=="),
        say("transfer.example:c2VjcmV0"),
        say("transfer.example:?"),
        say("\n"),
    ];
    insta::assert_snapshot!(all.join("\n"));
    assert_eq!(format!("{:?}", Keys::parse(KEYS).unwrap().0[0]), "Key(transfer.example Sha256)");
}
