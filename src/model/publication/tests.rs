use super::*;
use crate::api::Placed;
use crate::model::testing::{self, contoso, home, selectors};
use crate::model::vault::{FormerHome, VaultChange};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn empty(home: &Home) -> DkimRecordSetSpec {
    DkimRecordSetSpec {
        claim_ref: None,
        provider: home.provider.clone(),
        guid: home.guid.to_string(),
        initial_domain: Some(home.initial_domain.to_string()),
        zone: home.zone.clone(),
        orphaned: false,
        drain_seconds: 60,
        last_serial: 0,
        remembered_until: None,
        records: Vec::new(),
        former: Vec::new(),
        cnames: None,
    }
}

fn key(serial: u64, created: Timestamp) -> KeyInfo {
    testing::key(serial, KeyKind::Rsa2048, created)
}

fn vault() -> Vault {
    let mut vault = testing::vault(home("a.example"), at(0));
    let ring = &mut vault.rings.primary;
    ring.last_serial = 2;
    ring.slots[SlotId::One].phase = Phase::Active { key: key(1, at(0)), seen: at(1), since: at(2) };
    ring.slots[SlotId::Two].phase = Phase::Published { key: key(2, at(0)), seen: at(1), settled: at(2) };
    vault
}

const DRAIN: SignedDuration = SignedDuration::from_secs(100);

fn saved(spec: &DkimRecordSetSpec, publication: Publication) -> DkimRecordSetSpec {
    let Publication { records, former } = publication;
    DkimRecordSetSpec { records, former, ..spec.clone() }
}

fn names(records: &[PublishedRecord]) -> Vec<&str> {
    records.iter().map(|r| r.name.as_str()).collect()
}

#[test]
fn the_next_end_is_the_first_that_is_still_to_come() {
    let record = |until: Option<i64>| PublishedRecord {
        selector: "selector1".into(),
        name: "selector1-contoso-com._domainkey.contoso.onmail.example".into(),
        ttl: 60,
        value: "v=DKIM1; k=rsa; p=".into(),
        serial: 1,
        signed_since: None,
        keep_until: until.map(|second| Time(at(second))),
    };
    let mut spec = empty(&home("a.example"));
    spec.records = [None, Some(30), Some(20), Some(10)].map(record).to_vec();
    assert_eq!(next_end(&spec, at(10)), Some(at(20)));
    assert_eq!(next_end(&spec, at(30)), None);
}

#[test]
fn a_move_publishes_both_names_and_the_old_ones_outlive_it_by_the_drain() {
    let (old, new) = (home("a.example"), home("b.example"));
    let mut vault = vault();
    let mut spec = empty(&old);
    spec = saved(&spec, publish(&spec, &vault, &old, &[], DRAIN, at(10)));
    assert_eq!(names(&spec.records).len(), 2);
    vault.apply(&VaultChange::Move(crate::model::rotation::Move::Begin { to: new.clone() }), at(20));
    spec = saved(&spec, publish(&spec, &vault, &new, &[], DRAIN, at(20)));
    assert!(names(&spec.records).iter().all(|n| n.ends_with("b.example")), "{spec:#?}");
    assert_eq!(names(&spec.former[0].records).len(), 2);
    assert_eq!(spec.former[0].records[0].keep_until, None);
    vault.apply(&VaultChange::Move(crate::model::rotation::Move::Finish { drain: DRAIN }), at(30));
    // A key that is made after the move is never published under the old names.
    vault.rings.primary.slots[SlotId::Two].phase = Phase::Generated { key: key(3, at(31)) };
    spec = saved(&spec, publish(&spec, &vault, &new, &[], DRAIN, at(40)));
    assert_eq!(names(&spec.records).len(), 2);
    assert_eq!(names(&spec.former[0].records), ["selector1-contoso-com._domainkey.a.example"]);
    assert_eq!(spec.former[0].records[0].keep_until, Some(Time(at(130))));
    spec = saved(&spec, publish(&spec, &vault, &new, &[], DRAIN, at(130)));
    assert!(spec.former.is_empty(), "{spec:#?}");
}

#[test]
fn what_has_signed_stays_even_if_the_vault_forgets_it() {
    let (old, new) = (home("a.example"), home("b.example"));
    let mut spec = empty(&old);
    spec = saved(&spec, publish(&spec, &vault(), &old, &[], DRAIN, at(10)));
    let fresh = testing::vault(new.clone(), at(20));
    spec = saved(&spec, publish(&spec, &fresh, &new, &[], DRAIN, at(20)));
    assert!(spec.records.is_empty());
    assert_eq!(names(&spec.former[0].records), ["selector1-contoso-com._domainkey.a.example"]);
    spec = saved(&spec, publish(&spec, &fresh, &new, &[], DRAIN, at(119)));
    assert_eq!(spec.former.len(), 1);
    spec = saved(&spec, publish(&spec, &fresh, &new, &[], DRAIN, at(120)));
    assert!(spec.former.is_empty());
}

#[test]
fn two_initial_domains_in_one_zone_keep_their_records_apart() {
    let (mut old, mut new) = (home("a.example"), home("b.example"));
    for home in [&mut old, &mut new] {
        home.zone.apex = "example".into();
    }
    let mut vault = vault();
    vault.home = old.clone();
    vault.former = vec![FormerHome {
        home: home("c.example"),
        left: at(0),
        until: at(90),
        held: false,
        reached: false,
        answered: PerLane::default(),
        withdrawn: None,
    }];
    let spec = empty(&new);
    let found = publish(&spec, &vault, &new, &[], DRAIN, at(10));
    assert_eq!((names(&found.records).len(), found.former.len()), (2, 2), "{found:#?}");
    assert_eq!(names(&found.former[0].records).len(), 2);
    let initial = |place: Placed<'_>| place.initial_domain.map(str::to_owned);
    let mut spec = saved(&DkimRecordSetSpec { initial_domain: Some("b.example".into()), ..spec }, found);
    let all: Vec<_> = spec.placements().map(initial).collect();
    assert_eq!(all, ["b.example", "a.example", "c.example"].map(|name| Some(name.to_owned())));
    // An earlier version did not say so, and what it wrote is taken for the same place.
    spec.former[0].initial_domain = None;
    let again = publish(&spec, &vault, &new, &[], DRAIN, at(10));
    assert_eq!((again.records, again.former.len()), (spec.records.clone(), 2));
}

#[test]
fn a_revoked_key_says_so_until_its_end() {
    let old = home("a.example");
    let mut vault = vault();
    let mut spec = empty(&old);
    spec = saved(&spec, publish(&spec, &vault, &old, &[], DRAIN, at(10)));
    vault.rings.primary.slots[SlotId::One].phase =
        Phase::Revoked { key: key(1, at(0)), since: at(20), until: at(50) };
    spec = saved(&spec, publish(&spec, &vault, &old, &[], DRAIN, at(20)));
    let revoked = &spec.records[0];
    assert_eq!((revoked.value.as_str(), revoked.serial), ("v=DKIM1; k=rsa; p=", 1));
    assert_eq!(revoked.keep_until, Some(Time(at(50))));
    vault.rings.primary.slots[SlotId::One].phase = Phase::Generated { key: key(3, at(50)) };
    spec = saved(&spec, publish(&spec, &vault, &old, &[], DRAIN, at(50)));
    assert_eq!(spec.records[0].value, "v=DKIM1; k=rsa; p=AAA3");
}

#[test]
fn a_vault_is_recovered_with_what_drains() {
    let old = home("a.example");
    let spec = empty(&old);
    let spec = saved(&spec, publish(&spec, &vault(), &old, &[], DRAIN, at(10)));
    let lanes = PerLane { primary: selectors(), second: None };
    let vault = recover(&contoso(), &old, &lanes, &spec, DRAIN, at(20));
    assert_eq!(vault.last_serial(), 2);
    let phases = vault.rings.primary.slots.0.map(|slot| slot.phase.as_str());
    assert_eq!(phases, ["Draining", "Empty"]);
}

#[test]
fn no_serial_is_given_again_where_a_key_is_no_longer_published() {
    let old = home("a.example");
    let mut vault = vault();
    let mut spec = empty(&old);
    // A third key was published, did not sign, and went again.
    vault.rings.primary.install(SlotId::Two, key(3, at(5)));
    vault.rings.primary.slots[SlotId::Two].phase = Phase::Empty;
    spec = DkimRecordSetSpec {
        last_serial: last_serial(&spec, &vault),
        ..saved(&spec, publish(&spec, &vault, &old, &[], DRAIN, at(10)))
    };
    let lanes = PerLane { primary: selectors(), second: Some(second()) };
    let vault = recover(&contoso(), &old, &lanes, &spec, DRAIN, at(20));
    assert_eq!(vault.last_serial(), 3);
    assert!(vault.rings.iter().all(|(_, ring)| ring.last_serial == 3));
    assert_eq!(last_serial(&spec, &testing::vault(old, at(20))), 3, "it never goes back");
}

fn second() -> PerSlot<Selector> {
    PerSlot(["ed1", "ed2"].map(|s| Selector::parse(s).unwrap()))
}

#[test]
fn a_second_lane_that_closes_takes_no_serial_with_it() {
    let mut vault = vault();
    vault.apply(&VaultChange::OpenSecond { selectors: second() }, at(5));
    vault.rings.second.as_mut().unwrap().install(SlotId::One, key(7, at(5)));
    vault.apply(&VaultChange::CloseSecond, at(6));
    assert_eq!(vault.last_serial(), 7);
}

#[test]
fn a_vault_from_a_backup_is_behind_what_is_published() {
    let old = home("a.example");
    let backup = vault();
    let mut vault = backup.clone();
    let mut spec = empty(&old);
    let publish = |spec: &DkimRecordSetSpec, vault: &Vault, now| DkimRecordSetSpec {
        last_serial: last_serial(spec, vault),
        ..saved(spec, publish(spec, vault, &home("a.example"), &[], DRAIN, now))
    };
    spec = publish(&spec, &vault, at(10));
    assert!(!is_ahead_of(&spec, &vault));
    vault.rings.primary.install(SlotId::Two, key(3, at(11)));
    assert!(!is_ahead_of(&spec, &vault), "the Secret is written first");
    spec = publish(&spec, &vault, at(12));
    assert!(!is_ahead_of(&spec, &vault) && is_ahead_of(&spec, &backup));
    // An older program kept no count of its own.
    spec.last_serial = 0;
    assert!(is_ahead_of(&spec, &backup));
}

/// The Secret is lost while the set claims another GUID, and the domain goes back to the names that it has.
#[test]
fn a_vault_made_anew_finds_its_names_occupied_behind_a_claim() {
    let old = home("a.example");
    let published = saved(&empty(&old), publish(&empty(&old), &vault(), &old, &[], DRAIN, at(10)));
    let DkimRecordSetSpec { provider, guid, initial_domain, zone, records, .. } = published.clone();
    let former = vec![FormerPlacement { provider, guid, initial_domain, zone, records }];
    let claimed = DkimRecordSetSpec { guid: "shared".into(), records: Vec::new(), former, ..published };
    let lanes = PerLane { primary: selectors(), second: None };
    let again = recover(&contoso(), &old, &lanes, &claimed, DRAIN, at(30));
    let phase = &again.rings.primary.slots[SlotId::One].phase;
    assert!(matches!(phase, Phase::Draining { until, .. } if *until == at(130)), "{phase:?}");
}

#[test]
fn what_was_withdrawn_at_once_is_remembered_for_a_ttl() {
    let old = home("a.example");
    let published = saved(&empty(&old), publish(&empty(&old), &vault(), &old, &[], DRAIN, at(10)));
    let published = DkimRecordSetSpec { last_serial: 2, ..published };
    let left = let_go(&published, DeletionPolicy::Immediate, 1, at(20)).unwrap();
    assert!(left.placements().all(|place| place.records.is_empty()));
    assert_eq!((over_at(&left), left.last_serial), (Some(at(20 + 300 + 1)), 2));

    // A claim that is made meanwhile counts on, so that its names are not taken for new ones.
    let lanes = PerLane { primary: selectors(), second: None };
    let again = recover(&contoso(), &old, &lanes, &left, DRAIN, at(30));
    assert_eq!(again.rings.primary.last_serial, 2);
    // Nor does a lowered TTL make resolvers forget, or that the domain is published again.
    assert_eq!(again.rings.primary.slots[SlotId::One].older_ttl, 291);
    assert!(still_remembered(&left, at(320)).is_some() && still_remembered(&left, at(321)).is_none());

    assert_eq!(let_go(&left, DeletionPolicy::Drain, 1, at(320)).as_ref(), Some(&left));
    assert_eq!(let_go(&left, DeletionPolicy::Drain, 1, at(321)), None);
    assert_eq!(let_go(&empty(&old), DeletionPolicy::Immediate, 1, at(20)), None, "nothing was published");
}

#[test]
fn names_that_have_drained_count_as_served_until_the_set_lets_them_go() {
    let (old, new) = (home("a.example"), home("b.example"));
    let mut vault = vault();
    let set = saved(&empty(&old), publish(&empty(&old), &vault, &old, &[], DRAIN, at(10)));
    (vault.home, vault.former) = (new.clone(), Vec::new());
    vault.leave(old.clone(), false, PerLane::default(), DRAIN, at(10));
    let drained = at(10 + DRAIN.as_secs());
    let set = saved(&set, publish(&set, &vault, &new, &[], DRAIN, at(10)));
    assert!(!serves_drained(&set, &vault, at(10)), "they drain");
    assert!(serves_drained(&set, &vault, drained));
    let next = saved(&set, publish(&set, &vault, &new, &[], DRAIN, drained));
    assert!(!serves_drained(&next, &vault, drained), "{next:?}");
    vault.home = old;
    assert!(!serves_drained(&set, &vault, drained), "they are its own again");
}

#[test]
fn a_record_set_outlives_the_last_of_its_records() {
    let old = home("a.example");
    let mut spec = saved(&empty(&old), publish(&empty(&old), &vault(), &old, &[], DRAIN, at(10)));
    let let_go = |spec: &DkimRecordSetSpec, now| let_go(spec, DeletionPolicy::Drain, 1, now);
    spec = let_go(&spec, at(20)).unwrap();
    assert_eq!((names(&spec.records).len(), over_at(&spec)), (1, Some(at(80))), "one has signed");
    spec = let_go(&spec, at(80)).unwrap();
    assert_eq!((names(&spec.records).len(), over_at(&spec)), (0, Some(at(80 + 300 + 1))));
    assert_eq!(let_go(&spec, at(381)), None);
    // Orphaned, it stays as it is.
    let all = saved(&empty(&old), publish(&empty(&old), &vault(), &old, &[], DRAIN, at(10)));
    let orphaned = super::let_go(&all, DeletionPolicy::Orphan, 1, at(20)).unwrap();
    assert!(orphaned.orphaned && orphaned.records == all.records);
}
