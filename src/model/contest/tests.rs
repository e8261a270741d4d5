use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{ClaimRef, PublishedRecord};
use crate::model::acceptance::{Refusal, Tenant, accept};

const DOMAINS: [&str; 3] = ["one.example", "two.example", "three.example"];

fn order(domain: &str, guid: Option<&str>) -> Order {
    order_of("contoso", domain, guid)
}

/// Organisations share the zone.
fn order_of(namespace: &str, domain: &str, guid: Option<&str>) -> Order {
    let publish = json!({ "zone": "onmail.example" });
    let provider = json!({ "initialDomain": "{namespace}.onmail.example", "publish": publish });
    let provider = serde_json::from_value(provider).unwrap();
    let labels = BTreeMap::new();
    let tenant = Tenant { namespace, uid: "u", labels: &labels };
    let spec = serde_json::from_value(json!({ "domain": domain, "guid": guid })).unwrap();
    accept(&spec, "default", &provider, &tenant).unwrap()
}

fn records(order: &Order) -> Vec<PublishedRecord> {
    let targets = order.lanes.primary.targets.0.iter();
    let record = |name: &crate::model::name::DnsName| PublishedRecord {
        selector: "selector1".into(),
        name: name.to_string(),
        ttl: 60,
        value: format!("v=DKIM1; p={}", order.domain),
        serial: 1,
        signed_since: None,
        keep_until: None,
    };
    targets.map(record).collect()
}

/// What is published for a domain, or just claimed.
fn set(order: &Order, records: Vec<PublishedRecord>) -> DkimRecordSetSpec {
    let domain = order.domain.to_string();
    DkimRecordSetSpec {
        claim_ref: Some(ClaimRef { namespace: "contoso".into(), name: domain.clone(), uid: domain }),
        provider: order.provider.clone(),
        guid: order.home.guid.to_string(),
        initial_domain: Some(order.home.initial_domain.to_string()),
        zone: order.home.zone.clone(),
        orphaned: false,
        drain_seconds: 60,
        last_serial: 1,
        remembered_until: None,
        records,
        former: Vec::new(),
        cnames: None,
    }
}

fn contender<'a>(name: &'a str, spec: &'a DkimRecordSetSpec) -> Contender<'a> {
    Contender { name, spec, created: None, chosen: true }
}

#[test]
fn a_claim_leaves_what_is_published_and_can_be_taken_back() {
    let runs = order(DOMAINS[0], None);
    let published = set(&runs, records(&runs));
    let wants = order(DOMAINS[0], Some("shared"));
    let bid = Bid(&wants);
    assert!(!bid.is_claimed_by(&published) && contest_free(&published));
    let claimed = bid.claim(&published);
    assert!(bid.is_claimed_by(&claimed) && !bid.is_served_by(&claimed) && claimed.publishes());
    assert_eq!(claimed.former[0].records, published.records);
    assert_eq!(unclaimed(&claimed).as_ref(), Some(&published));
    // Another wish before the first one was decided leaves nothing of it.
    let other = order(DOMAINS[0], Some("other"));
    let again = Bid(&other).claim(&claimed);
    assert_eq!((again.guid.as_str(), again.former.len()), ("other", 1));
    assert_eq!(unclaimed(&again).as_ref(), Some(&published));
    assert_eq!(unclaimed(&set(&runs, Vec::new())), None, "it has nowhere to go back to");
}

#[test]
fn organisations_that_share_a_zone_share_no_names() {
    let (ours, theirs) = (order(DOMAINS[0], Some("mail")), order_of("fabrikam", DOMAINS[1], Some("mail")));
    assert_eq!(ours.home.zone, theirs.home.zone);
    let mut claimed = set(&theirs, Vec::new());
    assert!(!Bid(&ours).is_contested_by(DOMAINS[1], &claimed) && !Bid(&ours).is_claimed_by(&claimed));
    let other = order_of("fabrikam", DOMAINS[2], Some("mail"));
    assert!(Bid(&other).is_contested_by(DOMAINS[1], &claimed));
    // What an earlier version wrote does not say whose it is.
    claimed.initial_domain = None;
    assert!(Bid(&ours).is_contested_by(DOMAINS[1], &claimed));
    claimed.records = records(&theirs);
    assert!(!Bid(&ours).is_contested_by(DOMAINS[1], &claimed), "its records do");
}

#[test]
fn who_moves_between_organisations_claims_and_can_go_back() {
    let (runs, wants) = (order(DOMAINS[0], Some("mail")), order_of("fabrikam", DOMAINS[0], Some("mail")));
    let published = set(&runs, records(&runs));
    let bid = Bid(&wants);
    assert!(!bid.is_claimed_by(&published));
    let claimed = bid.claim(&published);
    assert!(bid.is_claimed_by(&claimed) && !bid.is_served_by(&claimed));
    assert_eq!(unclaimed(&claimed).as_ref(), Some(&published));
}

fn contest_free(published: &DkimRecordSetSpec) -> bool {
    let other = order(DOMAINS[1], Some("shared"));
    !Bid(&other).is_contested_by(DOMAINS[0], published) && unclaimed(published).is_none()
}

#[test]
fn names_of_before_a_move_are_served_without_a_contest_and_keep_others_out() {
    let (before, after) = (order(DOMAINS[0], Some("shared")), order(DOMAINS[0], Some("other")));
    let mut moved = Bid(&after).claim(&set(&before, records(&before)));
    moved.records = records(&after);
    assert!(Bid(&before).is_served_by(&moved) && !Bid(&before).is_claimed_by(&moved));
    let late = order(DOMAINS[1], Some("shared"));
    assert!(Bid(&late).is_contested_by(DOMAINS[0], &moved));
    moved.former.clear();
    assert!(!Bid(&late).is_contested_by(DOMAINS[0], &moved), "they have drained");
}

#[test]
fn who_loses_is_told_what_to_do() {
    let elsewhere = |provider: &str, initial: &str, guid: &str| {
        let mut runs = order(DOMAINS[0], Some(guid));
        runs.provider = provider.into();
        runs.home.provider = provider.into();
        let mut there = set(&runs, records(&runs));
        there.initial_domain = Some(initial.into());
        there
    };
    let (own, serves) = ("contoso.onmail.example", Holder { domain: DOMAINS[1], serves: true });
    let wants = Holder { serves: false, ..serves };
    let (chosen, derived) = (order(DOMAINS[0], Some("shared")), order(DOMAINS[0], None));
    let label = derived.home.guid.as_str();
    let silent = set(&chosen, Vec::new());
    let all = [
        ("new", Bid(&chosen).lost(true, None, serves)),
        ("claimed", Bid(&chosen).lost(true, Some(&silent), wants)),
        ("new, derived", Bid(&derived).lost(false, None, serves)),
        ("changed GUID", Bid(&chosen).lost(true, Some(&elsewhere("default", own, "old")), wants)),
        (
            "its claim stands",
            Bid(&chosen).lost(true, Some(&Bid(&chosen).claim(&elsewhere("default", own, "old"))), wants),
        ),
        ("took spec.guid out", Bid(&derived).lost(false, Some(&elsewhere("default", own, "old")), serves)),
        ("other provider", Bid(&chosen).lost(true, Some(&elsewhere("old", "old.example", "shared")), serves)),
        ("both", Bid(&chosen).lost(true, Some(&elsewhere("old", "old.example", "old")), serves)),
        (
            "other provider, derived",
            Bid(&derived).lost(false, Some(&elsewhere("old", "old.example", "x1")), serves),
        ),
        (
            "other initial domain",
            Bid(&derived).lost(false, Some(&elsewhere("default", "old.example", label)), serves),
        ),
    ];
    assert!(all.iter().all(|(_, refusal)| refusal.reason == crate::api::Reason::GuidTaken));
    let all = all.map(|(when, Refusal { message, .. })| format!("{when}:\n  {message}"));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_claim_that_was_let_go_begins_nothing() {
    let (gone, wants) = (order(DOMAINS[0], Some("shared")), order(DOMAINS[1], Some("shared")));
    let mut left = set(&gone, Vec::new());
    assert!(Bid(&wants).is_contested_by(DOMAINS[0], &left));
    left.claim_ref = None;
    assert!(!Bid(&wants).is_contested_by(DOMAINS[0], &left));
    left.records = records(&gone);
    assert!(Bid(&wants).is_contested_by(DOMAINS[0], &left), "what is published stands until it has drained");
}

#[test]
fn who_publishes_there_goes_first_then_who_runs_then_the_older() {
    let orders = DOMAINS.map(|domain| order(domain, Some("shared")));
    let bid = Bid(&orders[0]);
    let [serves, fresh] = [set(&orders[0], records(&orders[0])), set(&orders[1], Vec::new())];
    let elsewhere = order(DOMAINS[2], None);
    let moves = Bid(&orders[2]).claim(&set(&elsewhere, records(&elsewhere)));
    let [serves, fresh, moves] =
        [(DOMAINS[0], &serves), (DOMAINS[1], &fresh), (DOMAINS[2], &moves)].map(|(n, s)| contender(n, s));
    assert!(bid.is_before(&serves, &moves) && bid.is_before(&moves, &fresh));
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let (older, younger) =
        (Contender { created: at(1), ..fresh }, Contender { created: at(2), name: DOMAINS[0], ..fresh });
    assert!(bid.is_before(&older, &younger));
    assert!(
        bid.is_before(&Contender { chosen: false, created: at(1), ..younger }, &older),
        "it did not look"
    );
    assert_eq!(
        Bid(&orders[1]).standing(Some(&fresh), [serves, moves]),
        Standing::Behind { of: DOMAINS[0].into(), serves: true }
    );
    assert_eq!(
        Bid(&orders[1]).standing(Some(&fresh), [moves]),
        Standing::Behind { of: DOMAINS[2].into(), serves: false }
    );
    assert_eq!(
        Bid(&orders[2]).standing(Some(&moves), [fresh]),
        Standing::First { before: DOMAINS[1].into() }
    );
    assert_eq!(Bid(&orders[2]).standing(Some(&moves), []), Standing::Alone);
}

/// How far a controller has come with one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Looks,
    /// It has claimed by a write of this version, which the watch is to show.
    Claimed(u64),
    /// It was alone when its set had this version, and is about to publish.
    Passed(u64),
    Served,
    Refused,
}

#[derive(Debug, Clone)]
struct Stored {
    spec: DkimRecordSetSpec,
    created: Timestamp,
    version: u64,
}

type Sets = BTreeMap<String, Stored>;

/// Domains that want one GUID, the API server, and a watch of it that lags. Each step of a domain is one request.
#[derive(Debug)]
struct World {
    orders: [Order; 3],
    turns: [Turn; 3],
    /// As they were after each write.
    sets: Vec<Sets>,
    /// How many of the writes the watch has seen.
    watched: usize,
    second: i64,
}

impl World {
    fn new(runs: [bool; 3], created: [i64; 3]) -> Self {
        let orders = DOMAINS.map(|domain| order(domain, Some("shared")));
        let mut world =
            Self { orders, turns: [Turn::Looks; 3], sets: vec![Sets::new()], watched: 0, second: 10 };
        for (at, domain) in DOMAINS.into_iter().enumerate().filter(|(at, _)| runs[*at]) {
            let own = order(domain, None);
            world.second = created[at];
            world.put(domain, Some(set(&own, records(&own))), None);
        }
        world.watched = world.sets.len() - 1;
        world.second = 10;
        world
    }

    fn now(&self) -> &Sets {
        &self.sets[self.sets.len() - 1]
    }

    /// Writes over a version, or takes the set away. Returns the new version; `None` where somebody wrote in between.
    fn put(&mut self, domain: &str, spec: Option<DkimRecordSetSpec>, over: Option<u64>) -> Option<u64> {
        let version = u64::try_from(self.sets.len()).unwrap();
        let before = self.now().get(domain);
        if before.map(|before| before.version) != over {
            return None;
        }
        let created = before.map_or(Timestamp::from_second(self.second).unwrap(), |before| before.created);
        let mut next = self.now().clone();
        match spec {
            Some(spec) => drop(next.insert(domain.into(), Stored { spec, created, version })),
            None => drop(next.remove(domain)),
        }
        self.sets.push(next);
        Some(version)
    }

    fn watch(&mut self) {
        self.watched = (self.watched + 1).min(self.sets.len() - 1);
    }

    fn step(&mut self, at: usize) {
        let domain = DOMAINS[at];
        let order = self.orders[at].clone();
        let bid = Bid(&order);
        let shown = self.sets[self.watched].clone();
        let claims = |version: Option<u64>| version.map_or(Turn::Looks, Turn::Claimed);
        self.turns[at] = match (self.turns[at], shown.get(domain).cloned()) {
            (Turn::Served, _) => Turn::Served,
            (Turn::Passed(version), Some(stored)) => {
                let spec = DkimRecordSetSpec { records: records(&order), ..stored.spec };
                self.put(domain, Some(spec), Some(version)).map_or(Turn::Looks, |_| Turn::Served)
            }
            (Turn::Claimed(version), stored) if stored.as_ref().is_none_or(|s| s.version < version) => {
                Turn::Claimed(version)
            }
            (Turn::Refused, _)
                if shown.iter().any(|(name, other)| bid.is_contested_by(name, &other.spec)) =>
            {
                Turn::Refused
            }
            (_, None) => claims(self.put(domain, Some(set(&order, Vec::new())), None)),
            (_, Some(stored)) if !bid.is_claimed_by(&stored.spec) => {
                claims(self.put(domain, Some(bid.claim(&stored.spec)), Some(stored.version)))
            }
            (_, Some(stored)) => {
                let all = shown.iter().map(|(name, stored)| Contender {
                    created: Some(stored.created),
                    ..contender(name, &stored.spec)
                });
                let ours = Contender { created: Some(stored.created), ..contender(domain, &stored.spec) };
                match bid.standing(Some(&ours), all) {
                    Standing::Alone => Turn::Passed(stored.version),
                    Standing::First { .. } => Turn::Looks,
                    Standing::Behind { .. } => {
                        let left = self.put(domain, unclaimed(&stored.spec), Some(stored.version));
                        left.map_or(Turn::Looks, |_| Turn::Refused)
                    }
                }
            }
        };
    }

    /// One name never carries two keys, and what a domain publishes elsewhere stays as it is.
    fn check(&self, runs: [bool; 3]) {
        let served = |at: &usize| {
            self.now().get(DOMAINS[*at]).is_some_and(|set| Bid(&self.orders[*at]).is_served_by(&set.spec))
        };
        let all: Vec<usize> = (0..3).filter(served).collect();
        assert!(all.len() <= 1, "{all:?} publish at one name");
        for (at, domain) in DOMAINS.into_iter().enumerate().filter(|(at, _)| runs[*at]) {
            let own = order(domain, None);
            let spec = &self.now()[domain].spec;
            let there = spec.placements().find(|place| place.guid == own.home.guid.as_str());
            assert_eq!(there.map(|place| place.records), Some(records(&own).as_slice()), "{at}");
        }
    }
}

proptest! {
    /// Whoever runs or begins, however their requests follow each other, and however far the watch is behind.
    #[test]
    fn of_domains_that_want_one_guid_exactly_one_gets_it(
        runs in any::<[bool; 3]>(),
        created in [0_i64..3, 0..3, 0..3],
        steps in prop::collection::vec((0_usize..4, any::<bool>()), 0..60),
    ) {
        let mut world = World::new(runs, created);
        let rest = (0..60).flat_map(|_| (0..4).map(|at| (at, true)));
        for (at, later) in steps.into_iter().chain(rest) {
            world.second += i64::from(later);
            match at {
                0..3 => world.step(at),
                _ => world.watch(),
            }
            world.check(runs);
        }
        let count = |turn| world.turns.iter().filter(|t| **t == turn).count();
        prop_assert_eq!((count(Turn::Served), count(Turn::Refused)), (1, 2), "{:?}", world.turns);
        for (at, domain) in DOMAINS.into_iter().enumerate() {
            if world.turns[at] == Turn::Refused {
                let own = order(domain, None);
                let before = runs[at].then(|| set(&own, records(&own)));
                prop_assert_eq!(world.now().get(domain).map(|s| &s.spec), before.as_ref());
            }
        }
    }
}
