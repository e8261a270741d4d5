//! What a CNAME that points elsewhere was probably meant to be.

use super::RecordState;
use crate::model::name::DnsName;
use crate::model::selector::SlotId;
use crate::model::sighting::{Question, SlotQuestion};

/// Most edits that still look like a slip of the pen.
const MOST_EDITS: usize = 3;

/// Names under which well-known mail services publish their customers' keys, and what they are called.
const SERVICES: [(&str, &str); 14] = [
    ("onmicrosoft.com", "Microsoft 365"),
    ("dkim.mail.microsoft", "Microsoft 365"),
    ("dkim.amazonses.com", "Amazon SES"),
    ("google.com", "Google"),
    ("googlehosted.com", "Google"),
    ("sendgrid.net", "SendGrid"),
    ("mailgun.org", "Mailgun"),
    ("dkim.mcsv.net", "Mailchimp"),
    ("mandrillapp.com", "Mandrill"),
    ("zoho.com", "Zoho"),
    ("zohomail.com", "Zoho"),
    ("fastmail.com", "Fastmail"),
    ("messagingengine.com", "Fastmail"),
    ("proton.ch", "Proton"),
];

/// What is wrong with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slip {
    /// It is the other selector's.
    OtherSelector,
    /// A zone was appended.
    Relative,
    /// `domainkey` for `_domainkey`.
    Underscore,
    /// Dashes for dots or dots for dashes.
    DashDot,
    /// Quotes are part of it.
    Quoted,
    /// A few letters are wrong.
    Typo,
    /// Another domain of the same organisation.
    OtherDomain,
    /// The same domain, but below another organisation of this provider.
    OtherNamespace,
    /// Another organisation of this provider.
    OtherOrganisation,
    /// A service that is well known.
    Service(&'static str),
    /// The alias itself, or another name of the tenant's own.
    OwnName,
    /// Anybody else.
    Stranger,
}

impl Slip {
    pub(super) fn state(self) -> RecordState {
        match self {
            Self::OtherSelector => RecordState::SwappedSelectors,
            Self::Relative => RecordState::RelativeTarget,
            Self::Underscore => RecordState::UnderscoreDropped,
            Self::DashDot => RecordState::DashInsteadOfDot,
            Self::Quoted => RecordState::QuotedTarget,
            Self::Typo
            | Self::OtherDomain
            | Self::OtherNamespace
            | Self::OtherOrganisation
            | Self::Service(_)
            | Self::OwnName
            | Self::Stranger => RecordState::WrongTarget,
        }
    }

    /// The guess in words, to follow the target.
    pub(super) fn hint(self) -> String {
        match self {
            Self::OtherSelector => ", which belongs to the other selector".to_owned(),
            Self::Relative | Self::Underscore | Self::DashDot | Self::Quoted => String::new(),
            Self::Typo => ", which looks like a slip of the pen".to_owned(),
            Self::OtherDomain => ", which belongs to another domain of this organisation".to_owned(),
            Self::OtherNamespace => {
                ", which is this domain in another organisation of this provider, perhaps the one before"
                    .to_owned()
            }
            Self::OtherOrganisation => ", which belongs to another organisation at this provider".to_owned(),
            Self::Service(name) => format!(", which belongs to {name}, perhaps the provider before"),
            Self::OwnName => ", which is a name of the domain itself".to_owned(),
            Self::Stranger => ", which belongs to somebody else, perhaps the provider before".to_owned(),
        }
    }
}

/// Says what is wrong with a target that is a proper name.
pub(super) fn slip(target: &DnsName, wanted: &SlotQuestion, question: &Question) -> Slip {
    let (found, expected) = (target.as_str(), wanted.target.as_str());
    let other = |s: SlotId| question.slots[s].target == *target && question.slots[s].target != wanted.target;
    if SlotId::ALL.into_iter().any(other) {
        return Slip::OtherSelector;
    }
    if let Some(found) = slip_of_text(found, expected) {
        return found;
    }
    if distance(found, expected) <= MOST_EDITS {
        return Slip::Typo;
    }
    // `LABEL._domainkey.INITIAL-DOMAIN`, on both sides.
    let parts = |name: &str| name.split_once("._domainkey.").map(|(l, zone)| (l.to_owned(), zone.to_owned()));
    let parent =
        |zone: &str| zone.split_once('.').map(|(_, rest)| rest.to_owned()).filter(|z| z.contains('.'));
    if let (Some((label, zone)), Some((our_label, our_zone))) = (parts(found), parts(expected)) {
        if zone == our_zone {
            return Slip::OtherDomain;
        }
        if parent(&zone).is_some() && parent(&zone) == parent(&our_zone) {
            return if label == our_label { Slip::OtherNamespace } else { Slip::OtherOrganisation };
        }
    }
    let below = |zone: &&(&str, &str)| {
        found == zone.0 || found.strip_suffix(zone.0).is_some_and(|r| r.ends_with('.'))
    };
    if let Some((_, name)) = SERVICES.iter().find(below) {
        return Slip::Service(name);
    }
    let domain = DnsName::from(&question.domain);
    if target.is_in(&domain) { Slip::OwnName } else { Slip::Stranger }
}

/// Says what is wrong with a target that is no proper name.
pub(super) fn odd_slip(target: &str, wanted: &SlotQuestion) -> Slip {
    let quotes = |c: char| matches!(c, '"' | '\'' | '`' | '\\' | '\u{201c}' | '\u{201d}');
    let bare: String = target.chars().filter(|c| !quotes(*c)).collect();
    let bare = bare.trim_end_matches('.').to_ascii_lowercase();
    let expected = wanted.target.as_str();
    let quoted = bare.len() < target.trim_end_matches('.').len();
    if quoted && (bare == expected || slip_of_text(&bare, expected) == Some(Slip::Relative)) {
        return Slip::Quoted;
    }
    match slip_of_text(&bare, expected) {
        Some(slip) => slip,
        None if distance(&bare, expected) <= MOST_EDITS => Slip::Typo,
        None => Slip::Stranger,
    }
}

fn slip_of_text(found: &str, expected: &str) -> Option<Slip> {
    if found.strip_prefix(expected).is_some_and(|rest| rest.starts_with('.')) {
        return Some(Slip::Relative);
    }
    if expected.replace("._domainkey.", ".domainkey.") == found {
        return Some(Slip::Underscore);
    }
    (found != expected && expected.replace('.', "-") == found.replace('.', "-")).then_some(Slip::DashDot)
}

/// The edit distance, two letters changed about being one edit; given up on where the lengths differ much.
pub(super) fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > MOST_EDITS {
        return usize::MAX;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let get = |line: &[usize], at: usize| line.get(at).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best =
                (get(&row, j) + usize::from(x != y)).min(get(&row, j + 1) + 1).min(get(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(get(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(usize::MAX)
}
