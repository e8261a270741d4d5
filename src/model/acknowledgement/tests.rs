use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::model::key::KeyKind;
use crate::model::keyring::{KeyInfo, Keyring};
use crate::model::name::DnsName;
use crate::model::selector::SlotId;
use crate::model::testing;
use crate::model::vault::FormerHome;

const LAG: i64 = 300;
const DRAIN: i64 = 4 * 86_400;
const LEASE: i64 = 180;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn who(name: &str) -> Who {
    ("tenant".into(), name.into())
}

fn info(serial: u64) -> KeyInfo {
    testing::key(serial, KeyKind::Ed25519, at(-1_000_000))
}

/// Key 1 drains until `until`, key 2 signs.
fn switched(until: i64, held: bool) -> Vault {
    let mut vault = testing::vault(testing::home("contoso.onmail.example"), at(-1_000_000));
    let [one, two] = &mut vault.rings.primary.slots.0;
    one.phase = Phase::Draining { key: info(1), since: at(-500_000), until: at(until), held };
    two.phase = Phase::Active { key: info(2), seen: at(-400_000), since: at(0) };
    vault
}

fn told(vault: &Vault, version: u64) -> Told<'_> {
    Told {
        namespace: "mail",
        secret: "dkim-contoso.com",
        version: Some(version),
        vault,
        lag: SignedDuration::from_secs(LAG),
    }
}

fn heard(version: u64, says: SignerReport, renewed: i64) -> Heard {
    Heard {
        version: version.to_string(),
        says,
        renewed: at(renewed),
        lasts: SignedDuration::from_secs(LEASE),
        listed: false,
    }
}

fn up_to(version: u64) -> SignerReport {
    SignerReport { version: Some(version), ..SignerReport::default() }
}

/// A signer renews every minute.
fn renew(roster: &mut Roster, says: &SignerReport, now: i64) -> Vec<Who> {
    let version = u64::try_from(now + 1_000).unwrap();
    roster.hear("mail", "milter-1", heard(version, says.clone(), now), at(now))
}

fn held(acknowledged: &Acknowledged) -> bool {
    acknowledged.in_use.primary[SlotId::One]
}

#[test]
fn nobody_who_reports_holds_nothing() {
    let mut roster = Roster::default();
    let vault = switched(LAG + DRAIN, false);
    let acknowledged = roster.look(&who("a"), told(&vault, 50), at(0));
    assert_eq!(acknowledged, Acknowledged::default());
    assert_eq!(roster.look(&who("a"), told(&vault, 50), at(LAG + DRAIN)), Acknowledged::default());
}

#[test]
fn a_signer_that_moves_within_the_lag_is_no_news() {
    let mut roster = Roster::default();
    let vault = switched(LAG + DRAIN, false);
    renew(&mut roster, &up_to(49), -10);
    let before = roster.look(&who("a"), told(&vault, 50), at(0));
    assert!(!held(&before) && before.behind == ["milter-1"]);
    assert_eq!(before.wake, Some(at(-10 + LEASE)), "by then it is lost, unless it renews");
    assert_eq!(renew(&mut roster, &up_to(49), 50), Vec::<Who>::new());
    assert_eq!(renew(&mut roster, &up_to(50), 60), [who("a")]);
    // The Secret has been written since; that asks nothing of signers.
    assert_eq!(roster.look(&who("a"), told(&vault, 70), at(61)), Acknowledged::default());
    renew(&mut roster, &up_to(50), 400);
    assert_eq!(roster.look(&who("a"), told(&vault, 70), at(LAG + 200)), Acknowledged::default());
    assert_eq!(roster.census(at(LAG + 200)), Census { current: 1, ..Census::default() });
}

#[test]
fn a_signer_that_lives_on_and_does_not_move_holds_until_it_does() {
    let mut roster = Roster::default();
    let vault = switched(LAG + DRAIN, false);
    for now in (0..LAG).step_by(60) {
        renew(&mut roster, &up_to(49), now);
        assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(now))));
        assert_eq!(roster.census(at(now)).behind, 0);
    }
    renew(&mut roster, &up_to(49), LAG);
    let now = roster.look(&who("a"), told(&vault, 50), at(LAG));
    assert!(held(&now));
    assert_eq!(now.wake, Some(at(LAG + 60)));
    let census = roster.census(at(LAG));
    assert_eq!((census.behind, census.longest), (1, SignedDuration::from_secs(LAG)));
    // Another controller, which knows nothing yet, goes on holding.
    let mut other = Roster::default();
    renew(&mut other, &up_to(49), LAG + 60);
    let vault = switched(LAG + DRAIN, true);
    assert!(held(&other.look(&who("a"), told(&vault, 55), at(LAG + 60))));
    assert_eq!(renew(&mut other, &up_to(55), LAG + 90), [who("a")]);
    assert!(!held(&other.look(&who("a"), told(&vault, 55), at(LAG + 90))));
}

/// Signed as the provider with one key; the names of before the move stay until then.
fn moved(until: i64, held: bool) -> Vault {
    let mut vault = switched(0, false);
    let [one, two] = &mut vault.rings.primary.slots.0;
    one.phase = Phase::Active { key: info(1), seen: at(-400_000), since: at(-300_000) };
    two.phase = Phase::Published { key: info(2), seen: at(-200_000), settled: at(-100_000) };
    let mut old = vault.home.clone();
    old.initial_domain = DnsName::new("contoso.before.example").unwrap();
    vault.former = vec![FormerHome {
        home: old,
        left: at(0),
        until: at(until),
        held,
        reached: false,
        answered: PerLane::default(),
        withdrawn: None,
    }];
    vault
}

#[test]
fn one_that_does_not_follow_a_move_holds_the_names_of_before() {
    let mut roster = Roster::default();
    let vault = moved(LAG + DRAIN, false);
    let mut before = vault.clone();
    before.home = before.former.remove(0).home;
    renew(&mut roster, &up_to(49), -10);
    assert_eq!(roster.look(&who("a"), told(&before, 49), at(-10)), Acknowledged::default());
    let now = roster.look(&who("a"), told(&vault, 50), at(0));
    assert!(!now.former_in_use && !now.former_overdue && now.behind == ["milter-1"], "{now:?}");
    renew(&mut roster, &up_to(49), LAG);
    let late = roster.look(&who("a"), told(&vault, 50), at(LAG));
    assert!(late.former_in_use && late.former_overdue && !held(&late), "{late:?}");
    assert_eq!(roster.census(at(LAG)).behind, 1);
    let vault = moved(LAG + DRAIN, true);
    assert!(roster.look(&who("a"), told(&vault, 55), at(LAG + 1)).former_in_use);
    assert_eq!(renew(&mut roster, &up_to(50), LAG + 60), [who("a")]);
    assert_eq!(roster.look(&who("a"), told(&vault, 55), at(LAG + 60)), Acknowledged::default());
    // Another controller, which knows nothing yet, goes on telling.
    let mut other = Roster::default();
    renew(&mut other, &up_to(49), LAG + 120);
    let anew = other.look(&who("a"), told(&vault, 55), at(LAG + 120));
    assert!(anew.former_in_use && anew.former_overdue, "{anew:?}");
}

#[test]
fn names_that_were_withdrawn_ask_nothing_of_signers_any_more() {
    let mut roster = Roster::default();
    let mut vault = moved(0, false);
    vault.former[0].withdrawn = Some(at(1));
    renew(&mut roster, &up_to(49), 0);
    assert_eq!(roster.look(&who("a"), told(&vault, 50), at(2)), Acknowledged::default());
    vault.former[0].withdrawn = None;
    assert!(roster.look(&who("a"), told(&vault, 50), at(2)).former_in_use);
}

#[test]
fn names_that_a_cname_may_lead_to_stay_for_a_signer_within_its_lag_and_are_told_of_after_it() {
    let mut roster = Roster::default();
    let mut vault = moved(LAG + DRAIN, true);
    vault.former[0].reached = true;
    vault.rings.primary.mode = Mode::Domain;
    renew(&mut roster, &up_to(49), -10);
    assert_eq!(roster.look(&who("a"), told(&vault, 49), at(-10)), Acknowledged::default());
    vault.rings.primary.mode = Mode::Default;
    let within = roster.look(&who("a"), told(&vault, 50), at(0));
    assert!(within.former_in_use && !within.former_overdue && within.behind == ["milter-1"], "{within:?}");
    // Others that drain are held with them, and nobody is late for that.
    let mut also = vault.clone();
    also.former.push(FormerHome { reached: false, ..vault.former[0].clone() });
    renew(&mut roster, &up_to(49), LAG - 1);
    let within = roster.look(&who("a"), told(&also, 50), at(LAG - 1));
    assert!(within.former_in_use && !within.former_overdue, "{within:?}");
    assert_eq!(within.wake, Some(at(LAG)), "then it is late");
    assert_eq!(roster.census(at(LAG - 1)).behind, 0);
    renew(&mut roster, &up_to(49), LAG);
    let late = roster.look(&who("a"), told(&vault, 50), at(LAG));
    assert!(late.former_in_use && late.former_overdue, "{late:?}");
    assert_eq!(roster.census(at(LAG)).behind, 1);
    assert_eq!(renew(&mut roster, &up_to(50), LAG + 60), [who("a")]);
    assert_eq!(roster.look(&who("a"), told(&vault, 50), at(LAG + 60)), Acknowledged::default());
}

#[test]
fn names_that_were_left_a_moment_ago_do_not_make_late_who_left_the_keys_long_ago() {
    let mut roster = Roster::default();
    let mut vault = switched(10 * DRAIN, false);
    vault.rings.primary.mode = Mode::Default;
    renew(&mut roster, &up_to(50), 0);
    roster.look(&who("a"), told(&vault, 50), at(0));
    let mut old = vault.home.clone();
    std::mem::swap(&mut old, &mut vault.home);
    vault.home.initial_domain = DnsName::new("contoso.after.example").unwrap();
    let moved = 3 * LAG;
    vault.former = vec![FormerHome {
        home: old,
        left: at(moved),
        until: at(10 * DRAIN),
        held: false,
        reached: false,
        answered: PerLane::default(),
        withdrawn: None,
    }];
    renew(&mut roster, &up_to(50), moved);
    roster.look(&who("a"), told(&vault, 60), at(moved));
    let census = roster.census(at(moved + 1));
    assert_eq!((census.behind, census.longest), (0, SignedDuration::ZERO), "within the lag");
    renew(&mut roster, &up_to(50), moved + LAG);
    let census = roster.census(at(moved + LAG));
    assert_eq!((census.behind, census.longest.as_secs()), (1, LAG), "for the names alone");
}

#[test]
fn a_second_signature_by_the_providers_names_is_asked_for_as_well() {
    let mut roster = Roster::default();
    let mut vault = switched(10 * DRAIN, false);
    vault.rings.primary.mode = Mode::Domain;
    vault.rings.second = Some(Keyring { mode: Mode::Default, ..vault.rings.primary.clone() });
    renew(&mut roster, &up_to(50), 0);
    roster.look(&who("a"), told(&vault, 50), at(0));
    let old = vault.home.clone();
    vault.home.initial_domain = DnsName::new("contoso.after.example").unwrap();
    vault.former = vec![FormerHome {
        home: old,
        left: at(1),
        until: at(10 * DRAIN),
        held: false,
        reached: false,
        answered: PerLane::default(),
        withdrawn: None,
    }];
    roster.look(&who("a"), told(&vault, 60), at(1));
    renew(&mut roster, &up_to(50), LAG + 1);
    assert!(roster.look(&who("a"), told(&vault, 60), at(LAG + 1)).former_in_use);
}

#[test]
fn one_that_names_its_keys_is_not_asked_for_names() {
    let mut roster = Roster::default();
    let names = |serial| SignerReport::name_of(&info(serial).fingerprint);
    let says =
        SignerReport { keys: [("contoso.com".to_owned(), vec![names(1)])].into(), ..SignerReport::default() };
    renew(&mut roster, &says, 0);
    let vault = moved(LAG + DRAIN, false);
    roster.look(&who("a"), told(&vault, 50), at(0));
    renew(&mut roster, &says, LAG);
    assert_eq!(roster.look(&who("a"), told(&vault, 50), at(LAG)), Acknowledged::default());
}

#[test]
fn one_that_is_silent_is_lost_and_not_waited_for() {
    let mut roster = Roster::default();
    renew(&mut roster, &up_to(49), 0);
    let vault = switched(LAG + DRAIN, true);
    let now = roster.look(&who("a"), told(&vault, 50), at(LEASE - 1));
    assert_eq!((held(&now), now.wake), (true, Some(at(LEASE))));
    let now = roster.look(&who("a"), told(&vault, 50), at(LEASE));
    assert_eq!((held(&now), now.lost.as_slice()), (false, &["milter-1".to_owned()][..]));
    assert_eq!(roster.census(at(LEASE)).lost, 1);
    assert_eq!(roster.forgotten(at(LEASE)), []);
    assert_eq!(roster.forgotten(later(at(LEASE), REMEMBERED)).len(), 1);
    // Whoever cannot hear must not think that nobody speaks.
    roster.hearing("mail", false, at(LEASE));
    assert!(held(&roster.look(&who("a"), told(&vault, 50), at(LEASE))));
    assert_eq!(roster.forgotten(at(LEASE)), []);
    roster.hearing("mail", true, at(LEASE));
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(LEASE))));
    // One that was lost long before comes back to life by no outage.
    let day = LEASE + 86_400;
    roster.hearing("mail", false, at(day));
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(day))));
    assert_eq!(roster.forgotten(at(day)), [], "it is not forgotten in an outage either");
}

#[test]
fn what_reports_for_another_is_waited_for_in_silence_and_not_for_ever() {
    let hour = 3_600;
    let mut roster = Roster::default();
    renew(&mut roster, &SignerReport { hold_seconds: Some(3_600), ..up_to(49) }, 0);
    let vault = switched(LAG + DRAIN, true);
    let now = roster.look(&who("a"), told(&vault, 50), at(LEASE));
    assert!(held(&now) && now.lost.is_empty() && now.behind == ["milter-1"]);
    let census = roster.census(at(LEASE + LAG));
    assert_eq!((census.lost, census.longest), (1, SignedDuration::from_secs(LAG)), "and it is told as lost");
    let now = roster.look(&who("a"), told(&vault, 50), at(LEASE + hour - 1));
    assert_eq!((held(&now), now.wake), (true, Some(at(LEASE + hour))));
    let now = roster.look(&who("a"), told(&vault, 50), at(LEASE + hour));
    assert!(!held(&now) && now.behind.is_empty() && now.lost == ["milter-1"]);
    assert_eq!(roster.census(at(LEASE + hour)).longest, SignedDuration::ZERO);
    // Whatever a Lease says.
    renew(&mut roster, &SignerReport { hold_seconds: Some(u32::MAX), ..up_to(49) }, 0);
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), later(at(LEASE), REMEMBERED))));
}

#[test]
fn more_leases_than_count_are_told_and_hold_nothing() {
    let mut roster = Roster::default();
    let hear = |roster: &mut Roster, n: usize, says: u64| {
        roster.hear("mail", &format!("s{n}"), heard(says, up_to(says), 0), at(0));
    };
    (0..MOST_SIGNERS).for_each(|n| hear(&mut roster, n, 90));
    hear(&mut roster, MOST_SIGNERS, 49);
    let vault = switched(LAG + DRAIN, true);
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(0))));
    let expected = Census { current: MOST_SIGNERS, uncounted: 1, ..Census::default() };
    assert_eq!(roster.census(at(0)), expected);
    roster.gone("mail", "s0", at(0));
    hear(&mut roster, MOST_SIGNERS, 49);
    assert!(held(&roster.look(&who("a"), told(&vault, 50), at(0))), "there is room for it now");
    assert_eq!(roster.census(at(0)).uncounted, 0);
}

#[test]
fn a_lease_that_is_listed_again_has_not_been_renewed() {
    let mut roster = Roster::default();
    renew(&mut roster, &up_to(49), 0);
    let again = Heard { listed: true, ..heard(1_000, up_to(49), 0) };
    roster.hear("mail", "milter-1", again, at(100));
    assert_eq!(roster.census(at(LEASE)).lost, 1);
    let future = Heard { listed: true, ..heard(1, up_to(49), 50_000) };
    roster.hear("mail", "fast-clock", future, at(100));
    assert_eq!(roster.census(at(100 + LEASE)).lost, 2, "its clock is not believed");
    roster.keep("mail", &BTreeSet::from(["fast-clock".to_owned()]), at(100));
    assert_eq!(roster.census(at(100)).current, 1);
}

#[test]
fn a_lease_that_is_listed_first_lives_until_it_could_have_renewed() {
    let mut roster = Roster::default();
    // A controller that has just begun, and a signer whose clock is an hour slow.
    let now = LAG + DRAIN;
    let slow = Heard { listed: true, ..heard(1_000, up_to(49), now - 3_600) };
    roster.hear("mail", "milter-1", slow, at(now));
    let vault = switched(now, false);
    assert!(held(&roster.look(&who("a"), told(&vault, 50), at(now + LEASE - 1))));
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(now + LEASE))));
    assert_eq!(roster.census(at(now + LEASE)).lost, 1);
}

#[test]
fn a_hold_in_silence_does_not_begin_anew_with_each_list() {
    let mut roster = Roster::default();
    let says = SignerReport { hold_seconds: Some(3_600), ..up_to(49) };
    let silent = |now: i64| Heard { listed: true, ..heard(u64::try_from(now).unwrap(), says.clone(), 0) };
    roster.hear("mail", "sync-1", silent(3_000), at(3_000));
    let vault = switched(0, false);
    assert!(held(&roster.look(&who("a"), told(&vault, 50), at(3_600 + LEASE - 1))));
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(3_600 + LEASE))));
    let day = 86_400;
    roster.hear("mail", "sync-1", silent(day + LEASE), at(day + LEASE));
    assert_eq!(roster.forgotten(at(day + LEASE)), []);
    assert_eq!(roster.forgotten(at(day + 2 * LEASE)), [("mail".to_owned(), "sync-1".to_owned())]);
}

#[test]
fn at_the_end_of_the_drain_no_doubt_is_left() {
    let mut roster = Roster::default();
    // A controller that was away for the whole drain.
    renew(&mut roster, &up_to(49), LAG + DRAIN);
    let vault = switched(LAG + DRAIN, false);
    assert!(held(&roster.look(&who("a"), told(&vault, 50), at(LAG + DRAIN))));
}

#[test]
fn exceptions_and_files_are_told_by_name() {
    let mut roster = Roster::default();
    let vault = switched(LAG + DRAIN, true);
    let except = SignerReport { except: vec!["dkim-contoso.com".into()], ..up_to(90) };
    renew(&mut roster, &except, 0);
    assert!(held(&roster.look(&who("a"), told(&vault, 50), at(0))));
    let elsewhere = SignerReport { except: vec!["dkim-other.com".into()], ..up_to(90) };
    renew(&mut roster, &elsewhere, 1);
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(1))));
    let files = |serial: u64| SignerReport {
        keys: [("contoso.com".into(), vec![SignerReport::name_of(&info(serial).fingerprint)])].into(),
        ..SignerReport::default()
    };
    renew(&mut roster, &files(1), 2);
    assert!(held(&roster.look(&who("a"), told(&vault, 50), at(2))));
    renew(&mut roster, &files(2), 3);
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(3))));
    renew(&mut roster, &SignerReport::default(), 4);
    assert!(!held(&roster.look(&who("a"), told(&vault, 50), at(4))), "it says nothing of this domain");
}

#[test]
fn another_namespace_is_none_of_ours() {
    let mut roster = Roster::default();
    roster.hear("elsewhere", "milter-1", heard(1, up_to(1), 0), at(0));
    assert!(!held(&roster.look(&who("a"), told(&switched(9, true), 50), at(0))));
}

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    Renew { signer: u8, behind: u64 },
    Leave { signer: u8 },
    Pass { seconds: i64 },
    Write { domain: u8 },
    Switch { domain: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u8, 0..4u64).prop_map(|(signer, behind)| Step::Renew { signer, behind }),
        1 => (0..4u8).prop_map(|signer| Step::Leave { signer }),
        3 => (1..200i64).prop_map(|seconds| Step::Pass { seconds }),
        1 => (0..3u8).prop_map(|domain| Step::Write { domain }),
        2 => (0..3u8).prop_map(|domain| Step::Switch { domain }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whoever asks each signer about each domain at each moment comes to the same; and a domain that is freed by a
    /// renewal is named by it.
    #[test]
    fn the_roster_is_as_good_as_asking_everybody(steps in prop::collection::vec(step(), 1..60)) {
        let mut roster = Roster::default();
        let (mut now, mut version) = (0i64, 100u64);
        let mut signers: BTreeMap<u8, (u64, i64)> = BTreeMap::new();
        // Each domain: its Secret's version, the version and time of its switch.
        let mut domains: BTreeMap<u8, (u64, u64, i64)> = BTreeMap::new();
        let vault = switched(i64::from(u32::MAX), false);
        let name = |domain: u8| who(&domain.to_string());
        for step in steps {
            let mut woken = Vec::new();
            let before: BTreeMap<u8, bool> = domains
                .iter()
                .map(|(domain, (secret, ..))| {
                    (*domain, held(&roster.look(&name(*domain), told(&vault, *secret), at(now))))
                })
                .collect();
            let mut by_lease = false;
            match step {
                Step::Renew { signer, behind } => {
                    let says = version.saturating_sub(behind).max(signers.get(&signer).map_or(0, |s| s.0));
                    signers.insert(signer, (says, now));
                    version += 1;
                    by_lease = true;
                    let heard = heard(version, up_to(says), now);
                    woken = roster.hear("mail", &format!("s{signer}"), heard, at(now));
                }
                Step::Leave { signer } => {
                    signers.remove(&signer);
                    by_lease = true;
                    woken = roster.gone("mail", &format!("s{signer}"), at(now));
                }
                Step::Pass { seconds } => now += seconds,
                Step::Write { domain } => {
                    version += 1;
                    if let Some(known) = domains.get_mut(&domain) {
                        known.0 = version;
                    }
                }
                Step::Switch { domain } => {
                    version += 1;
                    roster.forget(&name(domain));
                    domains.insert(domain, (version, version, now));
                }
            }
            for (domain, (secret, switched, since)) in &domains {
                let lives = |renewed: i64| renewed + LEASE > now;
                let behind = signers.values().any(|(says, renewed)| lives(*renewed) && says < switched);
                let expected = behind && now >= since + LAG;
                let found = roster.look(&name(*domain), told(&vault, *secret), at(now));
                prop_assert_eq!(held(&found), expected);
                prop_assert_eq!(!found.behind.is_empty(), behind);
                // Looking at the moment that was named, or when woken, misses nothing.
                prop_assert!(found.wake.is_none_or(|wake| wake > at(now)));
                if by_lease && before.get(domain) == Some(&true) && !expected {
                    let timer = signers.is_empty() || signers.values().all(|(says, _)| says >= switched);
                    prop_assert!(woken.contains(&name(*domain)) || !timer);
                }
            }
        }
    }
}
