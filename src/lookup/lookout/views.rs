//! Resolvers that say something else than the zone's servers: from an old memory, or for good?

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::diagnosis::behind;
use crate::model::name::DnsName;
use crate::model::sighting::{SlotQuestion, SlotSighting};

/// Resolvers count in whole seconds, and look again only when they are asked.
const SLACK: Duration = Duration::from_secs(3);

/// Until when what a resolver said of a name can be a memory.
#[derive(Debug, Default)]
pub struct Views {
    until: HashMap<(DnsName, SocketAddr), Instant>,
}

impl Views {
    /// Takes in what was seen at `now`. Returns the resolvers whose memory must have run out, and which say the same still.
    pub fn look(&mut self, question: &SlotQuestion, seen: &SlotSighting, now: Instant) -> Vec<SocketAddr> {
        let behind = behind(question, seen);
        self.until.retain(|(name, resolver), _| {
            *name != question.alias || behind.iter().any(|(address, _)| address == resolver)
        });
        let mut other = Vec::new();
        for (resolver, seconds) in behind {
            let ends = now + Duration::from_secs(u64::from(seconds)) + SLACK;
            // What it says first may be remembered for so long; what it says later has no claim to more.
            let until = *self.until.entry((question.alias.clone(), resolver)).or_insert(ends);
            if until < now {
                other.push(resolver);
            }
        }
        other.sort_unstable();
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sighting::{Outcome, ServerAnswer, ServerRole};

    #[test]
    fn a_memory_that_outlives_its_time_is_none() {
        let name = |text: &str| DnsName::new(text).unwrap();
        let question = SlotQuestion { alias: name("s._domainkey.contoso.com"), target: name("t.example") };
        let answer = |last: u8, role, outcome| ServerAnswer {
            name: None,
            address: SocketAddr::from(([127, 0, 0, last], 53)),
            role,
            outcome,
        };
        let right = Outcome::Cname { target: name("t.example"), ttl: 60 };
        let seen = |theirs: Outcome| SlotSighting {
            alias: vec![
                answer(1, ServerRole::Authoritative, right.clone()),
                answer(2, ServerRole::Recursive, theirs),
            ],
            ..SlotSighting::default()
        };
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut views = Views::default();
        let absent = || seen(Outcome::NxDomain { negative_ttl: 60 });
        assert_eq!(views.look(&question, &absent(), begin), []);
        assert_eq!(views.look(&question, &absent(), after(60)), []);
        assert_eq!(views.look(&question, &absent(), after(64)).len(), 1);
        // It has come round; when it says so again, that is a new memory.
        assert_eq!(views.look(&question, &seen(right.clone()), after(70)), []);
        assert_eq!(views.look(&question, &absent(), after(80)), []);
        assert_eq!(views.look(&question, &absent(), after(144)).len(), 1);
    }
}
