//! Tenants' CNAMEs: what to do about one. The mark beside it says whose it is, as with keys.

use super::{Change, Data, Holder, Mark, Seen, Step, cut, holder, joined, shortened, words};
use crate::model::name::DnsName;

/// Decides what to do so that `name` is a CNAME to `target`. One without mark that leads there already is taken over: it is
/// what we would publish.
#[must_use]
pub fn publish_cname(name: &DnsName, seen: &Seen, target: &DnsName, ttl: u32, mark: &Mark) -> Step {
    if let Some((text, _)) = seen.texts.first() {
        return Step::Conflict(words::no_cname(name, &format!("a TXT (\"{}\")", shortened(&joined(text)))));
    }
    let ours = match holder(seen, mark) {
        Holder::Other(owner) => return Step::Conflict(words::marked(name, &owner, &mark.owner)),
        Holder::Us { .. } => true,
        Holder::Nobody => false,
    };
    match &seen.cname {
        Some((found, _)) if found != target && !ours => {
            return Step::Conflict(words::no_cname(name, &format!("a CNAME to {found}")));
        }
        Some((found, had))
            if found == target
                && *had == ttl
                && seen.marks.first().is_some_and(|(text, _)| joined(text) == mark.to_string()) =>
        {
            return Step::Nothing;
        }
        _ => {}
    }
    Step::Change(Box::new(Change {
        name: name.clone(),
        before: seen.clone(),
        record: Some((Data::Cname(target.clone()), ttl)),
        mark: Some((cut(&mark.to_string()), ttl)),
    }))
}

/// Decides what to do so that no CNAME of ours is at `name`. What does not bear our mark of this very place stays.
#[must_use]
pub fn withdraw_cname(name: &DnsName, seen: &Seen, mark: &Mark) -> Step {
    match holder(seen, mark) {
        Holder::Us { place } if place == mark.place => {}
        _ => return Step::Nothing,
    }
    // What is no CNAME was put there by somebody else since: only our mark goes.
    let before = Seen { texts: Vec::new(), ..seen.clone() };
    Step::Change(Box::new(Change { name: name.clone(), before, record: None, mark: None }))
}
