use super::*;
use crate::api::ZoneSpec;
use crate::model::guid::{Guid, GuidStyle};
use crate::model::home::Home;
use crate::model::key::{Algorithm, PublicKey};
use crate::model::keyring::{KeyInfo, Keyring, Link, Mode, Phase, later};
use crate::model::lanes::{LaneId, PerLane};
use crate::model::name::{DnsName, DomainName};
use crate::model::selector::Selector;
use crate::model::vault::{Vault, VaultChange};

fn home(initial: &str) -> Home {
    let selector = Selector::parse("selector1").unwrap();
    let domain = DomainName::parse("contoso.com").unwrap();
    Home {
        provider: "default".into(),
        guid: Guid::derive(&domain, &GuidStyle::Readable, [&selector, &selector]),
        initial_domain: DnsName::new(initial).unwrap(),
        zone: ZoneSpec {
            apex: format!("_domainkey.{initial}"),
            name_servers: Vec::new(),
            negative_ttl: 60,
            outlet: None,
        },
        ttl: 300,
    }
}

const OLDER: u32 = 900;
const UP: LinkSight = LinkSight::Verified { older_ttl: OLDER, by_copy: false };
const COPIED: LinkSight = LinkSight::Verified { older_ttl: OLDER, by_copy: true };
const DOWN: LinkSight = LinkSight::Broken { older_ttl: OLDER };

/// A vault and a world in which our TXTs are always published, wherever the vault says.
struct World {
    vault: Vault,
    wanted: Home,
    policy: Policy,
    second: Option<PerSlot<Selector>>,
    /// Where the tenant's CNAMEs lead.
    cnames: PerSlot<Option<Home>>,
    /// Its DNS host shows copies in their place.
    flattened: bool,
    /// A signer says that it signs by former names.
    former_in_use: bool,
    now: Timestamp,
}

fn selectors(one: &str, two: &str) -> PerSlot<Selector> {
    PerSlot([one, two].map(|s| Selector::parse(s).unwrap()))
}

impl World {
    fn enabled() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let old = home("a.example");
        let domain = DomainName::parse("contoso.com").unwrap();
        let mut world = Self {
            vault: Vault::new(domain, old.clone(), selectors("selector1", "selector2"), now),
            wanted: old.clone(),
            policy: super::tests::policy(),
            second: None,
            cnames: PerSlot([Some(old.clone()), Some(old)]),
            flattened: false,
            former_in_use: false,
            now,
        };
        world.settle();
        world.pass(i64::from(OLDER));
        assert_eq!(world.vault.rings.primary.mode, Mode::Domain);
        world
    }

    fn evidence(&self, home: &Home) -> Evidence {
        let slots = PerSlot::from_fn(|slot| {
            let leads = self.cnames[slot].as_ref().is_some_and(|there| there.is_at(home));
            // The same TXT is at every name, so a copy of any is a copy of each.
            let copied =
                self.flattened && self.cnames[slot].as_ref().is_some_and(|there| self.publishes(there));
            let link = if copied {
                COPIED
            } else if leads && !self.flattened {
                UP
            } else {
                DOWN
            };
            SlotEvidence { link, key: KeySight::Matches }
        });
        Evidence { at: self.now, slots }
    }

    /// The spec names new names, and the tenant is told of them.
    fn announce(&mut self) {
        self.wanted = home("b.example");
        self.settle();
        self.pass(301);
    }

    /// Both CNAMEs lead there.
    fn follow(&mut self, initial: &str) {
        self.cnames = PerSlot([Some(home(initial)), Some(home(initial))]);
    }

    fn publishes(&self, there: &Home) -> bool {
        let next = self.vault.moving.iter().map(|moving| &moving.to);
        let former = self.vault.former.iter().map(|former| &former.home);
        std::iter::once(&self.vault.home).chain(next).chain(former).any(|home| home.is_at(there))
    }

    fn step(&mut self) -> VaultDecision {
        let sights = Sights {
            home: Some(self.evidence(&self.vault.home)),
            next: self.vault.moving.as_ref().map(|moving| self.evidence(&moving.to)),
        };
        let lane = LaneObserved { sights, custody: PerSlot([true; 2]), in_use: PerSlot::default() };
        let lanes = self.vault.rings.map(|_, _| lane);
        let observed = VaultObserved { lanes, former_in_use: self.former_in_use };
        let second = self.second.as_ref().map(|_| Policy {
            kind: KeyKind::Ed25519,
            cadence: Cadence::Along,
            ..self.policy.clone()
        });
        let wanted = Wanted {
            home: &self.wanted,
            policies: PerLane { primary: &self.policy, second: second.as_ref() },
            second: self.second.as_ref(),
        };
        let decision = decide_vault(&self.vault, &wanted, &observed, self.now);
        let now = self.now.max(self.vault.high_water());
        for change in &decision.changes {
            self.vault.apply(change, now);
            if let VaultChange::Key { lane, change: Change::Generate { slot, kind, .. } } = change {
                let serial = self.vault.last_serial() + 1;
                let key = KeyInfo {
                    serial,
                    kind: *kind,
                    public: PublicKey { algorithm: Algorithm::Rsa, p: String::new() },
                    fingerprint: KeyFingerprint::of(&serial.to_be_bytes()),
                    created: now,
                    imported: false,
                };
                self.vault.rings.get_mut(*lane).unwrap().install(*slot, key);
            }
        }
        decision
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if self.step().changes.is_empty() {
                return;
            }
        }
        panic!("no rest after 20 decisions: {:#?}", self.vault);
    }

    fn pass(&mut self, seconds: i64) {
        self.now = later(self.now, SignedDuration::from_secs(seconds));
        self.settle();
    }

    fn moving(&self) -> &Moving {
        self.vault.moving.as_ref().expect("a move is under way")
    }
}

#[test]
fn a_move_goes_on_only_as_the_tenant_s_cnames_do() {
    let mut world = World::enabled();
    let (old, new) = (home("a.example"), home("b.example"));
    world.wanted = new.clone();
    world.settle();
    assert_eq!(world.moving().announced, None);
    // What the new names answered before, absence or an earlier key, may be remembered until then.
    world.pass(299);
    assert_eq!(world.moving().announced, None);
    world.pass(2);
    assert!(world.moving().announced.is_some());
    world.pass(400 * 86_400);
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&old, Mode::Domain));
    world.cnames[SlotId::One] = Some(new.clone());
    world.pass(86_400);
    assert_eq!(world.vault.home, old, "one CNAME is not both");
    assert_eq!(world.vault.rings.primary.mode, Mode::Domain, "wherever it leads the key is there");
    world.cnames[SlotId::Two] = Some(new.clone());
    world.pass(1);
    assert_eq!(world.vault.home, old, "a resolver may still follow the old CNAME");
    world.pass(i64::from(OLDER));
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&new, Mode::Domain));
    assert_eq!(world.vault.former[0].until, later(world.now, world.policy.drain_time()));
    assert!(world.vault.rings.primary.active().is_some());
    world.pass(97 * 3_600);
    assert!(world.vault.former.is_empty() && world.vault.moving.is_none());
}

#[test]
fn rotations_go_on_during_a_move() {
    let mut world = World::enabled();
    world.wanted = home("b.example");
    world.pass(301);
    for _ in 0..20 {
        world.pass(30 * 86_400);
    }
    assert!(world.vault.rings.primary.log.count >= 3, "{}", world.vault.rings.primary.log.count);
}

#[test]
fn default_signing_moves_as_soon_as_the_new_names_are_settled() {
    let mut world = World::enabled();
    world.policy.enabled = false;
    world.settle();
    world.cnames = PerSlot([None, None]);
    world.wanted = home("b.example");
    world.settle();
    assert_eq!(world.vault.home, home("a.example"));
    world.pass(301);
    world.settle();
    assert_eq!(world.vault.home, home("b.example"));
    assert_eq!(world.vault.former.len(), 1);
}

#[test]
fn cnames_that_no_move_has_waited_for_are_looked_at_anew() {
    let mut world = World::enabled();
    world.policy.enabled = false;
    world.settle();
    world.wanted = home("b.example");
    world.follow("b.example");
    world.settle();
    world.pass(301);
    assert_eq!(world.vault.home, home("b.example"));
    world.policy.enabled = true;
    world.pass(i64::from(OLDER) - 1);
    assert_eq!(world.vault.rings.primary.mode, Mode::Default, "a resolver may have been led back and forth");
    world.pass(1);
    assert_eq!(world.vault.rings.primary.mode, Mode::Domain);
}

#[test]
fn names_of_before_stay_while_a_signer_uses_them_and_drain_from_then_on() {
    let mut world = World::enabled();
    world.policy.enabled = false;
    world.settle();
    world.announce();
    world.settle();
    assert_eq!(world.vault.home, home("b.example"));
    world.former_in_use = true;
    world.pass(400);
    assert!(world.vault.former[0].held);
    world.pass(30 * 86_400);
    assert_eq!(world.vault.former.len(), 1);
    world.former_in_use = false;
    world.pass(1);
    assert!(!world.vault.former[0].held);
    assert_eq!(world.vault.former[0].until, later(world.now, world.policy.drain_time()));
    world.pass(97 * 3_600);
    assert!(world.vault.former.is_empty());
}

#[test]
fn a_new_name_that_answered_with_another_key_waits_for_that_ones_ttl() {
    let mut world = World::enabled();
    world.announce();
    // A server there was seen with the key before.
    let (lane, slot) = (LaneId::Primary, SlotId::Two);
    world.vault.apply(&VaultChange::Move(Move::Unseen { lane, slot }), world.now);
    world.settle();
    let wait = world.moving().lanes.primary[slot].settled.duration_since(world.now);
    assert!(wait >= SignedDuration::from_secs(300), "{wait}");
}

#[test]
fn a_move_called_off_leaves_the_new_names_to_drain() {
    let mut world = World::enabled();
    world.wanted = home("b.example");
    world.pass(301);
    world.wanted = home("a.example");
    world.settle();
    assert!(world.vault.moving.is_none());
    assert_eq!(world.vault.former[0].home, home("b.example"));
    world.pass(1);
    world.pass(97 * 3_600);
    assert!(world.vault.former.is_empty());
}

#[test]
fn a_cname_that_leads_to_a_new_name_without_the_key_is_no_link() {
    let home = Evidence {
        at: Timestamp::UNIX_EPOCH,
        slots: PerSlot([SlotEvidence { link: DOWN, key: KeySight::Matches }; 2]),
    };
    let next = |key| Evidence { slots: PerSlot([SlotEvidence { link: UP, key }; 2]), ..home };
    let merged = |key, settled| {
        let sights = Sights { home: Some(home), next: Some(next(key)) };
        sights.merged(PerSlot([settled; 2]), true).unwrap().slots[SlotId::One].link
    };
    assert_eq!(merged(KeySight::Matches, true), UP);
    assert_eq!(
        merged(KeySight::Matches, false),
        LinkSight::Unclear,
        "resolvers may remember what was there before"
    );
    assert_eq!(merged(KeySight::Contradicted, true), DOWN);
    assert_eq!(merged(KeySight::Unclear, true), LinkSight::Unclear);
}

#[test]
fn a_copy_is_good_at_home_during_a_move_and_no_link_to_the_next_name() {
    let seen =
        |link, key| Evidence { at: Timestamp::UNIX_EPOCH, slots: PerSlot([SlotEvidence { link, key }; 2]) };
    let merged = |home, next| {
        let next = seen(next, KeySight::Matches);
        let sights = Sights { home: Some(seen(home, KeySight::Matches)), next: Some(next) };
        sights.merged(PerSlot([true; 2]), true).unwrap().slots[SlotId::One].link
    };
    assert_eq!(merged(COPIED, COPIED), COPIED);
    assert_eq!(merged(COPIED, DOWN), COPIED);
    assert_eq!(merged(DOWN, COPIED), LinkSight::Unclear, "nor of one that is gone");
}

#[test]
fn a_move_of_a_flattened_domain_waits_until_its_cnames_show() {
    let mut world = World::enabled();
    let (old, new) = (home("a.example"), home("b.example"));
    world.flattened = true;
    world.settle();
    world.wanted = new.clone();
    world.settle();
    world.pass(301);
    assert!(world.moving().announced.is_some());
    for _ in 0..20 {
        world.pass(30 * 86_400);
    }
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&old, Mode::Domain));
    assert!(world.vault.rings.primary.log.count >= 3, "rotations go on");
    // It need not have led to the old name all the time, but the copies do not tell.
    world.cnames = PerSlot([Some(new.clone()), Some(new.clone())]);
    world.pass(86_400);
    assert_eq!(world.vault.home, old);
    world.flattened = false;
    world.pass(1);
    assert_eq!(world.vault.home, old, "what was there before may be remembered");
    world.pass(i64::from(OLDER));
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&new, Mode::Domain));
}

#[test]
fn names_of_a_move_called_off_stay_while_copies_hide_where_the_cnames_lead() {
    let mut world = World::enabled();
    world.flattened = true;
    world.announce();
    world.follow("b.example");
    world.wanted = home("a.example");
    world.settle();
    world.pass(1);
    world.pass(300 * 86_400);
    assert!(world.vault.former.first().is_some_and(|former| former.held), "{:#?}", world.vault.former);
    assert_eq!(world.vault.rings.primary.mode, Mode::Domain, "the key is there by either name");
    world.flattened = false;
    world.cnames = PerSlot([Some(home("a.example")), Some(home("a.example"))]);
    world.pass(1);
    assert!(!world.vault.former[0].held);
    world.pass(97 * 3_600);
    assert!(world.vault.former.is_empty());
}

#[test]
fn default_signing_ends_by_no_copy_of_a_name_that_drains() {
    let mut world = World::enabled();
    (world.policy.enabled, world.flattened) = (false, true);
    world.settle();
    world.announce();
    assert_eq!(world.vault.home, home("b.example"));
    world.policy.enabled = true;
    world.pass(1);
    world.pass(2 * 3_600);
    assert_eq!(world.vault.rings.primary.mode, Mode::Default, "the CNAMEs lead to the names of before");
    world.pass(97 * 3_600);
    assert!(world.vault.former.is_empty());
    world.follow("b.example");
    world.pass(1);
    world.pass(2 * 3_600);
    assert_eq!(world.vault.rings.primary.mode, Mode::Domain);
}

#[test]
fn a_cname_that_the_tenant_may_move_is_no_link_to_a_key_that_is_not_at_the_next_name() {
    let now = Timestamp::UNIX_EPOCH;
    let seen =
        |link| Evidence { at: now, slots: PerSlot([SlotEvidence { link, key: KeySight::Matches }; 2]) };
    let sights = Sights { home: Some(seen(UP)), next: Some(seen(DOWN)) };
    let merged =
        |settled, announced| sights.merged(PerSlot([settled; 2]), announced).unwrap().slots[SlotId::One].link;
    assert_eq!(merged(true, true), UP);
    assert_eq!(merged(false, true), LinkSight::Unclear);
    assert_eq!(merged(false, false), UP, "a move to where nothing answers hinders no rotation");
}

#[test]
fn names_of_a_move_called_off_stay_while_a_cname_leads_there_by_which_mail_was_signed() {
    let mut world = World::enabled();
    world.announce();
    let active = world.vault.rings.primary.active().unwrap();
    world.cnames[active] = Some(home("b.example"));
    world.wanted = home("a.example");
    // No look is as young as that the tenant has followed.
    world.pass(0);
    let former = |world: &World| world.vault.former.first().map(|former| (former.held, former.until));
    assert_eq!(former(&world).map(|(held, _)| held), Some(true), "{:#?}", world.vault);
    world.pass(1);
    // The other key signs, by a CNAME that leads home; that of the key before may be held for a signer that is late.
    assert_eq!(world.vault.rings.primary.active(), Some(active.other()));
    assert_eq!(former(&world).map(|(held, _)| held), Some(true));
    world.pass(97 * 3_600);
    assert_eq!(former(&world), Some((false, later(world.now, world.policy.drain_time()))));
    world.pass(97 * 3_600);
    assert_eq!(former(&world), None);
}

#[test]
fn names_that_no_cname_in_use_leads_to_are_held_again_for_a_signer_that_is_late() {
    let mut world = World::enabled();
    world.announce();
    world.follow("b.example");
    world.wanted = home("a.example");
    world.settle();
    world.pass(1);
    world.pass(600);
    assert_eq!((world.vault.rings.primary.mode, world.vault.former[0].held), (Mode::Default, false));
    // Once the lag is over a signer is found to sign as the domain still.
    world.former_in_use = true;
    world.pass(300);
    world.pass(30 * 86_400);
    assert!(world.vault.former.first().is_some_and(|former| former.held));
    world.former_in_use = false;
    world.pass(1);
    assert_eq!(world.vault.former[0].until, later(world.now, world.policy.drain_time()));
}

#[test]
fn a_move_called_off_twice_is_waited_for_as_the_first_time() {
    let mut world = World::enabled();
    world.announce();
    world.follow("b.example");
    // Both CNAMEs lead there, and go on to do so: the tenant does not follow back.
    world.wanted = home("a.example");
    world.step();
    let (held, begun) = (world.vault.former.clone(), world.vault.moving.clone());
    assert_eq!((held.len(), held[0].held, begun), (1, true, None));
    world.wanted = home("b.example");
    world.step();
    world.now = later(world.now, SignedDuration::from_secs(1));
    world.step();
    assert_eq!(world.moving().announced, None);
    world.wanted = home("a.example");
    world.step();
    let former = |world: &World| world.vault.former.iter().map(|f| (f.held, f.reached)).collect::<Vec<_>>();
    assert_eq!(former(&world), [(true, true)]);
}

#[test]
fn a_lane_that_no_look_has_told_of_at_the_next_names_begins_anew_there() {
    let mut world = World::enabled();
    let ring = Keyring::new(selectors("ed1", "ed2"), world.now);
    world.vault.apply(&VaultChange::Move(Move::Begin { to: home("b.example") }), world.now);
    let second = world.vault.rings.second.insert(ring);
    second.install(SlotId::One, super::tests::key(9, KeyKind::Ed25519, world.now));
    let up = Link::Up { trusted_from: world.now };
    second.slots[SlotId::One].link = up;
    world.vault.apply(&VaultChange::Move(Move::Finish { drain: SignedDuration::ZERO }), world.now);
    let link = world.vault.rings.second.as_ref().unwrap().slots[SlotId::One].link;
    assert_eq!(link, Link::unseen(world.now), "what was known is of the names of before");
}

#[test]
fn names_that_a_cname_has_left_stay_for_as_long_as_resolvers_may_follow_it() {
    let mut world = World::enabled();
    (world.policy.drain, world.policy.cname_ttl) = (SignedDuration::from_mins(1), 86_400);
    world.announce();
    world.wanted = home("a.example");
    world.settle();
    // The CNAMEs are seen where they belong.
    world.pass(1);
    world.pass(86_400 - 1);
    assert!(!world.vault.former.is_empty());
    world.pass(1);
    assert!(world.vault.former.is_empty());
}

#[test]
fn a_second_signature_is_rolled_along_and_goes_when_it_is_no_longer_wanted() {
    let mut world = World::enabled();
    world.second = Some(selectors("ed1", "ed2"));
    world.settle();
    world.pass(i64::from(OLDER));
    let second = world.vault.rings.second.as_ref().unwrap();
    assert_eq!((second.mode, second.active()), (Mode::Domain, Some(SlotId::One)));
    assert_eq!(second.slots[SlotId::One].phase.key().unwrap().kind, KeyKind::Ed25519);
    world.pass(180 * 86_400);
    let counts = world.vault.rings.map(|_, ring| ring.log.count);
    assert_eq!((counts.primary, counts.second), (1, Some(1)));
    world.second = None;
    world.settle();
    assert_eq!(world.vault.rings.second.as_ref().unwrap().active(), None);
    world.pass(97 * 3_600);
    world.settle();
    assert_eq!(world.vault.rings.second, None);
    assert!(world.vault.rings.primary.active().is_some());
}

#[test]
fn new_names_take_over_at_once_where_nothing_was_signed() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let domain = DomainName::parse("contoso.com").unwrap();
    let mut vault = Vault::new(domain, home("a.example"), selectors("selector1", "selector2"), now);
    let key = super::tests::key(1, KeyKind::Rsa2048, now);
    vault.rings.primary.slots[SlotId::One].phase = Phase::Published { key, seen: now, settled: now };
    let policy = super::tests::policy();
    let sights = PerLane { primary: Sights::default(), second: None };
    let moves = relocate(&vault, &home("b.example"), &policy, &sights, false, now);
    assert_eq!(moves, [Move::Settle { home: home("b.example") }]);
    vault.apply(&VaultChange::Move(moves[0].clone()), now);
    assert_eq!(vault.rings.primary.slots[SlotId::One].phase.as_str(), "Generated");
    assert!(matches!(vault.rings.get(LaneId::Primary).unwrap().slots[SlotId::One].link, Link::Down { .. }));
}

/// The world a moment before the slot that drains is refilled.
fn about_to_refill() -> World {
    let mut world = World::enabled();
    world.pass(180 * 86_400);
    assert_eq!(world.vault.rings.primary.slots[SlotId::One].phase.as_str(), "Draining");
    world.pass(96 * 3_600 + 299);
    world
}

fn wait_of(world: &World, slot: SlotId) -> i64 {
    match &world.vault.rings.primary.slots[slot].phase {
        Phase::Published { seen, settled, .. } => settled.duration_since(*seen).as_secs(),
        other => panic!("{other:?}"),
    }
}

fn set_ttls(world: &mut World, ttl: u32, negative_ttl: i32) {
    world.wanted.ttl = ttl;
    world.wanted.zone.negative_ttl = negative_ttl;
    world.policy.ttl = ttl;
    world.policy.negative_ttl = u32::try_from(negative_ttl).unwrap();
    world.settle();
}

#[test]
fn what_was_answered_under_a_greater_ttl_is_waited_for_once() {
    let mut world = about_to_refill();
    set_ttls(&mut world, 30, 60);
    world.pass(1);
    assert!(wait_of(&world, SlotId::One) >= 300, "{}", wait_of(&world, SlotId::One));
    // The next key answers under the lower TTL from the beginning.
    for slot in [SlotId::Two, SlotId::One] {
        world.pass(180 * 86_400);
        world.pass(97 * 3_600);
        assert!(wait_of(&world, slot) < if slot == SlotId::Two { 302 } else { 62 }, "{slot:?}");
    }
}

#[test]
fn a_key_that_is_replaced_before_it_has_settled_leaves_its_predecessors_ttl() {
    let mut world = about_to_refill();
    set_ttls(&mut world, 30, 60);
    world.pass(1);
    // The kind that is wanted changes while the new key settles.
    world.policy.kind = KeyKind::Rsa4096;
    world.settle();
    assert!(wait_of(&world, SlotId::One) >= 300);
}

#[test]
fn absence_is_remembered_for_as_long_as_it_was_answered() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let domain = DomainName::parse("contoso.com").unwrap();
    let mut before = home("a.example");
    before.zone.negative_ttl = 3_600;
    let mut vault = Vault::new(domain, before, selectors("selector1", "selector2"), now);
    vault.rings.primary.install(SlotId::One, super::tests::key(1, KeyKind::Rsa2048, now));
    vault.apply(&VaultChange::Move(Move::Refresh { home: home("a.example") }), now);
    let evidence =
        Evidence { at: now, slots: PerSlot([SlotEvidence { link: UP, key: KeySight::Matches }; 2]) };
    let observed =
        Observed { evidence: Some(&evidence), custody: PerSlot([true; 2]), in_use: PerSlot::default() };
    let decision = decide(&vault.rings.primary, &super::tests::policy(), &observed, now);
    let settled = decision.changes.iter().find_map(|change| match change {
        Change::Seen { settled, .. } => Some(settled.duration_since(now).as_secs()),
        _ => None,
    });
    assert!(settled.unwrap() >= 3_600, "{settled:?}");
}

#[test]
fn names_of_before_a_move_answer_under_their_own_ttl() {
    let mut world = about_to_refill();
    let mut elsewhere = home("b.example");
    elsewhere.ttl = 30;
    world.wanted = elsewhere;
    world.policy.ttl = 30;
    world.pass(1);
    assert!(wait_of(&world, SlotId::One) >= 300);
}

#[test]
fn what_concerns_new_names_begins_no_move() {
    let mut world = World::enabled();
    let before = world.vault.clone();
    for change in [
        Move::Seen { lane: LaneId::Primary, slot: SlotId::One, serial: 1, settled: world.now },
        Move::Link { lane: LaneId::Second, slot: SlotId::One, link: Link::Up { trusted_from: world.now } },
        Move::Unseen { lane: LaneId::Primary, slot: SlotId::Two },
    ] {
        world.vault.apply(&VaultChange::Move(change), world.now);
    }
    assert_eq!(world.vault, before);
}

#[test]
fn nobody_looks_for_a_lane_that_is_wanted_no_more() {
    let mut world = World::enabled();
    world.second = Some(selectors("ed1", "ed2"));
    world.settle();
    world.pass(i64::from(OLDER));
    world.announce();
    (world.wanted, world.second) = (home("a.example"), None);
    world.settle();
    world.now = later(world.now, SignedDuration::from_secs(1));
    let sights = Sights { home: Some(world.evidence(&world.vault.home)), next: None };
    let lane = |sights| LaneObserved { sights, custody: PerSlot([true; 2]), in_use: PerSlot::default() };
    let lanes = PerLane { primary: lane(sights), second: Some(lane(Sights::default())) };
    let observed = VaultObserved { lanes, former_in_use: false };
    let policies = PerLane { primary: &world.policy, second: None };
    let wanted = Wanted { home: &world.wanted, policies, second: None };
    let decision = decide_vault(&world.vault, &wanted, &observed, world.now);
    assert!(world.vault.former[0].held, "its keys drain, and where its CNAMEs lead is not known");
    assert_eq!((decision.changes, decision.look), (Vec::new(), false));
}
