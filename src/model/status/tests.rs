use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::model::acceptance::{Tenant, accept};
use crate::model::home::Home;
use crate::model::key::KeyKind;
use crate::model::lanes::LaneId;
use crate::model::name::DnsName;
use crate::model::rotation::{Change, Move};
use crate::model::selector::{PerSlot, SlotId};
use crate::model::sighting::{Outcome, ServerAnswer, ServerRole, SlotSighting};
use crate::model::testing::{key, selectors};
use crate::model::vault::VaultChange;

#[test]
fn signers_that_are_behind_are_named() {
    let all = ["a", "b", "c", "d"].map(str::to_owned);
    let words: Vec<String> = (0..=4).filter_map(|count| all.get(..count)).map(still_using).collect();
    assert_eq!(
        words,
        [
            "a signer still uses",
            "the signer a still uses",
            "the signers a and b still use",
            "the signers a, b and 1 more still use",
            "the signers a, b and 2 more still use",
        ]
    );
}

#[test]
fn a_drain_that_a_signer_holds_shows() {
    let now = Timestamp::UNIX_EPOCH;
    let mut ring = Keyring::new(selectors(), now);
    ring.install(SlotId::One, key(1, KeyKind::Rsa2048, now));
    let key = ring.slots[SlotId::One].phase.key().unwrap().clone();
    ring.slots[SlotId::One].phase = Phase::Draining { key, since: now, until: now, held: false };
    let held = |ring: &Keyring| key_status(&ring.slots[SlotId::One]).held;
    assert!(!held(&ring));
    ring.apply(&Change::Hold { slot: SlotId::One }, now);
    assert!(held(&ring));
    let drain = SignedDuration::from_hours(1);
    ring.apply(&Change::Free { slot: SlotId::One, drain }, now);
    assert!(!held(&ring));
}

/// A domain that signs, and what its spec says.
struct Stage {
    order: Order,
    vault: Vault,
    signers: Acknowledged,
    /// What is found at the names of every lane.
    seen: Option<Arc<Observation>>,
    now: Timestamp,
}

impl Stage {
    fn new(second: bool) -> Self {
        let mut spec = json!({ "domain": "contoso.com" });
        if second {
            spec["secondSignature"] = json!({ "selectors": ["ed1", "ed2"] });
        }
        let order = order(&spec);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let selectors = order.selectors();
        let mut vault = Vault::new(order.domain.clone(), order.home.clone(), selectors.primary, now);
        if let Some(selectors) = selectors.second {
            vault.apply(&VaultChange::OpenSecond { selectors }, now);
        }
        for lane in LaneId::ALL {
            let Some(ring) = vault.rings.get_mut(lane) else { continue };
            let [one, two] = [1, 2].map(|n| key(n + 2 * lane as u64, KeyKind::Rsa2048, now));
            ring.slots[SlotId::One].phase = Phase::Active { key: one, seen: now, since: now };
            ring.slots[SlotId::Two].phase = Phase::Published { key: two, seen: now, settled: now };
        }
        Self { order, vault, signers: Acknowledged::default(), seen: None, now }
    }

    fn elsewhere(&self) -> Home {
        order(&json!({ "domain": "contoso.com", "guid": "contoso-elsewhere" })).home
    }

    fn make(&mut self, step: Move) {
        self.vault.apply(&VaultChange::Move(step), self.now);
    }

    /// A condition, as it is shown.
    fn shown(&self, type_: ConditionType) -> String {
        let verdicts = self.facts(conditions::verdicts);
        let said = verdicts.iter().filter(|verdict| verdict.type_ == type_);
        said.map(|v| format!("{} {} {}: {}\n", v.type_.as_str(), v.holds, v.reason.as_str(), v.message))
            .collect()
    }

    fn listed_as_behind(&self) -> Vec<String> {
        self.facts(signers_behind)
    }

    fn facts<T>(&self, of: impl Fn(&Facts<'_>) -> T) -> T {
        let decision = Decision { changes: Vec::new(), waiting: None, next: None, wake: None, look: false };
        let lane = |lane: LaneId| {
            let question = self.order.question(lane, &self.order.lanes.get(lane)?.targets)?;
            let keyring = self.vault.rings.get(lane)?;
            let observation = self.seen.clone();
            Some(LaneFacts { keyring, decision: &decision, question, observation })
        };
        of(&Facts {
            order: &self.order,
            vault: &self.vault,
            lanes: PerLane { primary: lane(LaneId::Primary).unwrap(), second: lane(LaneId::Second) },
            import_fault: None,
            keys_lost: false,
            publishing: None,
            signers: &self.signers,
            now: self.now,
        })
    }
}

fn order(spec: &serde_json::Value) -> Order {
    let provider = serde_json::from_value(json!({ "initialDomain": "{namespace}.onmail.example" })).unwrap();
    let labels = BTreeMap::new();
    let tenant = Tenant { namespace: "contoso", uid: "u", labels: &labels };
    accept(&serde_json::from_value(spec.clone()).unwrap(), "default", &provider, &tenant).unwrap()
}

#[test]
fn a_move_that_waits_for_a_second_signature_to_drain_says_so() {
    let mut stage = Stage::new(true);
    let shown = |stage: &Stage| stage.shown(ConditionType::Moving);
    stage.make(Move::Begin { to: stage.elsewhere() });
    let mut said = shown(&stage);
    stage.order = order(&json!({ "domain": "contoso.com" }));
    let drain = SignedDuration::from_hours(96);
    let change = Change::Retire { slot: SlotId::One, drain };
    stage.vault.apply(&VaultChange::Key { lane: LaneId::Second, change }, stage.now);
    said += &shown(&stage);
    stage.make(Move::Announce);
    said += &shown(&stage);
    let change = Change::Hold { slot: SlotId::One };
    stage.vault.apply(&VaultChange::Key { lane: LaneId::Second, change }, stage.now);
    stage.signers.behind = vec!["dkim-milter-mail-0".to_owned()];
    said += &shown(&stage);
    stage.vault.apply(&VaultChange::CloseSecond, stage.now);
    said += &shown(&stage);
    insta::assert_snapshot!(said);
}

/// Copies of both keys, where the CNAMEs belong.
fn copies(at: Timestamp) -> Arc<Observation> {
    let says = |outcome| ServerAnswer {
        name: None,
        address: ([192, 0, 2, 1], 53).into(),
        role: ServerRole::Authoritative,
        outcome,
    };
    let txt = || vec![says(Outcome::Txt { texts: vec!["v=DKIM1; p=".into()], ttl: 300 })];
    let copied = || SlotSighting {
        alias: vec![says(Outcome::NoData { negative_ttl: 60 })],
        alias_txt: txt(),
        target_txt: txt(),
        ..SlotSighting::default()
    };
    Arc::new(Observation { at, slots: PerSlot([copied(), copied()]) })
}

#[test]
fn a_move_that_waits_for_cnames_to_show_says_so() {
    let mut stage = Stage::new(false);
    let shown = |stage: &Stage| stage.shown(ConditionType::Moving);
    stage.seen = Some(copies(stage.now));
    stage.vault.rings.primary.mode = Mode::Domain;
    stage.make(Move::Begin { to: stage.elsewhere() });
    let before = shown(&stage);
    assert!(before.ends_with("leave your records as they are\n"), "{before}");
    stage.make(Move::Announce);
    let said = shown(&stage);
    // No CNAME is waited for, and a key that the tenant publishes is no copy of ours.
    stage.vault.rings.primary.mode = Mode::Default;
    assert!(shown(&stage).ends_with("lead to the new names\n"), "{}", shown(&stage));
    stage.vault.rings.primary.mode = Mode::Domain;
    stage.order.delegation = crate::api::Delegation::Txt;
    assert!(shown(&stage).ends_with("lead to the new names\n"), "{}", shown(&stage));
    insta::assert_snapshot!(said);
}

#[test]
fn a_copy_that_may_be_of_a_name_that_drains_is_told_of() {
    let mut stage = Stage::new(false);
    stage.seen = Some(copies(stage.now));
    let told =
        |stage: &Stage| stage.shown(ConditionType::CnamesVerified).contains("once the names of before");
    assert!(!told(&stage));
    stage.make(Move::Begin { to: stage.elsewhere() });
    stage.make(Move::Finish { drain: SignedDuration::from_hours(96) });
    assert!(told(&stage));
}

#[test]
fn a_signer_that_signs_by_names_of_before_a_move_is_shown() {
    let mut stage = Stage::new(false);
    let drain = SignedDuration::from_hours(96);
    let shown = |stage: &Stage| stage.shown(ConditionType::Rotating);
    stage.make(Move::Begin { to: stage.elsewhere() });
    stage.make(Move::Finish { drain });
    let idle = shown(&stage);
    assert!(idle.starts_with("Rotating false"), "{idle}");
    stage.signers.behind = vec!["dkim-milter-mail-0".to_owned()];
    stage.signers.former_in_use = true;
    stage.signers.former_overdue = true;
    stage.make(Move::Hold);
    let held = shown(&stage);
    // A key that is held is told of first: no rotation comes before it is free.
    let slot = SlotId::Two;
    let key = key(3, KeyKind::Rsa2048, stage.now);
    stage.vault.rings.primary.slots[slot].phase =
        Phase::Draining { key, since: stage.now, until: stage.now, held: true };
    insta::assert_snapshot!(held + &shown(&stage));
}

/// A domain whose move was called off after the tenant had been told of the new names.
fn called_off() -> Stage {
    let mut stage = Stage::new(false);
    stage.vault.rings.primary.mode = Mode::Domain;
    stage.make(Move::Begin { to: stage.elsewhere() });
    stage.make(Move::Announce);
    stage.make(Move::Abandon { drain: SignedDuration::from_hours(96) });
    assert!(stage.vault.former[0].held);
    stage
}

#[test]
fn names_that_a_cname_may_lead_to_are_no_fault_of_a_signer() {
    let mut stage = called_off();
    let said = |stage: &Stage| stage.shown(ConditionType::Rotating);
    assert!(said(&stage).starts_with("Rotating false Idle"), "{}", said(&stage));
    // One that has just been asked holds them as well, and is not late.
    stage.vault.rings.primary.mode = Mode::Default;
    stage.signers.behind = vec!["dkim-milter-mail-0".to_owned()];
    stage.signers.former_in_use = true;
    assert!(said(&stage).starts_with("Rotating false Idle"), "{}", said(&stage));
    assert_eq!(stage.listed_as_behind(), Vec::<String>::new());
    let within = said(&stage) + &stage.shown(ConditionType::Moving);
    stage.signers.former_overdue = true;
    assert_eq!(stage.listed_as_behind(), ["dkim-milter-mail-0"]);
    insta::assert_snapshot!(within + &said(&stage));
}

/// CNAMEs that lead elsewhere, where the right ones belong.
fn astray(at: Timestamp) -> Arc<Observation> {
    let target = DnsName::new("selector1-contoso-elsewhere._domainkey.contoso.onmail.example").unwrap();
    let mut seen = (*copies(at)).clone();
    for slot in &mut seen.slots.0 {
        slot.alias_txt.clear();
        slot.alias[0].outcome = Outcome::Cname { target: target.clone(), ttl: 300 };
    }
    Arc::new(seen)
}

#[test]
fn what_keeps_the_names_of_a_move_that_was_called_off_is_told() {
    let mut stage = called_off();
    let shown = |stage: &Stage| stage.shown(ConditionType::Moving);
    let mut said = shown(&stage);
    stage.seen = Some(copies(stage.now));
    said += &shown(&stage);
    stage.seen = Some(astray(stage.now));
    said += &shown(&stage);
    let third = order(&json!({ "domain": "contoso.com", "guid": "contoso-third" })).home;
    stage.make(Move::Begin { to: third });
    said += &shown(&stage);
    // To go there again is a move like any other.
    stage.make(Move::Abandon { drain: SignedDuration::from_hours(96) });
    stage.make(Move::Begin { to: stage.elsewhere() });
    assert!(shown(&stage).ends_with("leave your records as they are\n"), "{}", shown(&stage));
    stage.make(Move::Abandon { drain: SignedDuration::from_hours(96) });
    stage.make(Move::Part { drain: SignedDuration::from_hours(96) });
    assert_eq!(shown(&stage), "", "they drain");
    insta::assert_snapshot!(said);
}
