//! What a look makes of a CNAME.

use jiff::Timestamp;

use super::{LinkSight, Policy};
use crate::model::keyring::Link;

/// Where a CNAME stands after a look at `now`; `None` where the look changes nothing. A CNAME that was not there is trusted
/// once the longest that resolvers may remember of what was there instead has passed.
pub(super) fn follow(policy: &Policy, link: Link, sight: LinkSight, now: Timestamp) -> Option<Link> {
    match (sight, link) {
        (LinkSight::Verified { older_ttl, .. }, Link::Down { older_ttl: remembered, .. }) => {
            Some(Link::Up { trusted_from: policy.run_out(now, older_ttl.max(remembered)) })
        }
        (LinkSight::Broken { older_ttl }, Link::Up { .. }) => Some(Link::Down { since: now, older_ttl }),
        (LinkSight::Broken { older_ttl }, Link::Down { since, older_ttl: remembered }) => {
            (older_ttl > remembered).then_some(Link::Down { since, older_ttl })
        }
        (LinkSight::Verified { .. }, Link::Up { .. }) | (LinkSight::Unclear, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_longest_memory_counts_and_the_first_moment_stays() {
        let policy = Policy { rounding: 1, ..super::super::tests::policy() };
        let follow = |link, sight, now| follow(&policy, link, sight, now);
        let mut link = Link::unseen(at(0));
        for (sight, now) in [
            (LinkSight::Broken { older_ttl: 900 }, 10),
            (LinkSight::Broken { older_ttl: 60 }, 20),
            (LinkSight::Unclear, 30),
        ] {
            link = follow(link, sight, at(now)).unwrap_or(link);
        }
        assert_eq!(link, Link::Down { since: at(0), older_ttl: 900 });
        let up = follow(link, LinkSight::Verified { older_ttl: 60, by_copy: false }, at(40)).unwrap();
        assert_eq!(up, Link::Up { trusted_from: at(941) }, "resolvers count in whole seconds");
        assert_eq!(follow(up, LinkSight::Verified { older_ttl: 9_000, by_copy: false }, at(50)), None);
        let down = follow(up, LinkSight::Broken { older_ttl: 5 }, at(60));
        assert_eq!(down, Some(Link::Down { since: at(60), older_ttl: 5 }));
    }
}
