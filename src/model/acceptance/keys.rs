//! Which keys a domain signs with, and what their rotation goes by.

use jiff::{SignedDuration, Timestamp};

use super::{Lane, Refusal, positive};
use crate::api::{Delegation, DkimDomainSpec, DkimProviderSpec, HumanDuration, KeyAlgorithm, Reason};
use crate::model::cadence::{self, Cadence, Schedule};
use crate::model::diagnosis::MAX_POSITIVE;
use crate::model::key::KeyKind;
use crate::model::lanes::PerLane;
use crate::model::name::DomainName;
use crate::model::rotation::{Policy, ROUNDING};
use crate::model::selector::{PerSlot, Selector};
use crate::model::sighting::LONGEST_LOOK;

/// The two selectors that a field names.
pub(super) fn selectors(field: &str, names: &[String]) -> Result<PerSlot<Selector>, Refusal> {
    let invalid = |fault: String| Refusal::invalid(field, fault);
    let [one, two] = names else {
        return Err(invalid("name exactly two selectors, such as selector1 and selector2".into()));
    };
    let one = Selector::parse(one).map_err(|e| invalid(e.to_string()))?;
    let two = Selector::parse(two).map_err(|e| invalid(e.to_string()))?;
    if one == two {
        return Err(invalid("the two selectors must differ, such as selector1 and selector2".into()));
    }
    Ok(PerSlot([one, two]))
}

/// What the rotation of the first keys goes by.
pub(super) fn policy(
    domain: &DomainName,
    spec: &DkimDomainSpec,
    provider_name: &str,
    provider: &DkimProviderSpec,
) -> Result<Policy, Refusal> {
    let rules = &provider.key_policy;
    let at_least = |field: &str, value: HumanDuration, least: HumanDuration| {
        if value >= least {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::PolicyViolation,
            format!(
                "spec.rotation.{field}: {value} is shorter than the {least} that DkimProvider {provider_name} allows; set {least} or more"
            ),
        ))
    };
    let rotation = &spec.rotation;
    let cadence = match &rotation.schedule {
        None => {
            at_least("interval", rotation.interval, rules.min_interval)?;
            Cadence::Every(rotation.interval.0)
        }
        Some(text) => {
            let schedule = Schedule::parse(text).map_err(|e| Refusal::invalid("rotation.schedule", e))?;
            let gap = HumanDuration(schedule.shortest_gap(Timestamp::UNIX_EPOCH));
            at_least("schedule", gap, rules.min_interval)?;
            Cadence::At(schedule)
        }
    };
    at_least("drain", rotation.drain, rules.min_drain)?;
    let jitter = rotation.jitter.map_or_else(|| cadence.usual_jitter(), |jitter| jitter.0);
    Ok(Policy {
        enabled: spec.enabled,
        kind: kind(spec, provider_name, rules.allow_rsa1024)?,
        offset: cadence::offset(domain, jitter),
        cadence,
        compromised_at: rotation.compromised_at.as_ref().map(|t| t.0),
        along_with: None,
        retired: false,
        link_per_key: spec.delegation == Delegation::Txt,
        imports: PerSlot::default(),
        drain: spec.rotation.drain.0,
        signer_lag: rules.signer_lag.0,
        paused: spec.rotation.paused,
        rotate_at: spec.rotation.rotate_at.as_ref().map(|t| t.0),
        ttl: positive(provider.publish.ttl),
        negative_ttl: positive(provider.publish.negative_ttl),
        rounding: ROUNDING,
        cname_ttl: MAX_POSITIVE,
        grace: provider.verification.grace.0,
        freshness: freshness(provider.verification.pending_interval.0),
    })
}

/// How old a look may be, `pause` being that from the end of one to the next. One round of looks may be missed; and a look
/// counts from its beginning, so it is not to be too old at its end, however long it took.
fn freshness(pause: SignedDuration) -> SignedDuration {
    let longest = SignedDuration::try_from(LONGEST_LOOK).unwrap_or(SignedDuration::MAX);
    pause.saturating_mul(2).max(longest.saturating_add(pause))
}

fn kind(spec: &DkimDomainSpec, provider_name: &str, allow_rsa1024: bool) -> Result<KeyKind, Refusal> {
    match (spec.key.algorithm, spec.key.size) {
        (KeyAlgorithm::Ed25519, None) => Ok(KeyKind::Ed25519),
        (KeyAlgorithm::Ed25519, Some(_)) => {
            Err(Refusal::invalid("key.size", "it belongs to RSA; leave it out for Ed25519"))
        }
        (KeyAlgorithm::Rsa, None | Some(2048)) => Ok(KeyKind::Rsa2048),
        (KeyAlgorithm::Rsa, Some(3072)) => Ok(KeyKind::Rsa3072),
        (KeyAlgorithm::Rsa, Some(4096)) => Ok(KeyKind::Rsa4096),
        (KeyAlgorithm::Rsa, Some(1024)) if allow_rsa1024 => Ok(KeyKind::Rsa1024),
        (KeyAlgorithm::Rsa, Some(1024)) => Err(Refusal::new(
            Reason::PolicyViolation,
            format!(
                "spec.key.size: DkimProvider {provider_name} does not allow 1024 bits (RFC 8301 advises against it); set 2048, or ask the provider for keyPolicy.allowRsa1024"
            ),
        )),
        (KeyAlgorithm::Rsa, Some(other)) => Err(Refusal::invalid(
            "key.size",
            format!("{other} is none of 1024, 2048, 3072 and 4096; set 2048"),
        )),
    }
}

/// The lane of the second signature: rolled along with the primary one, of the other kind.
pub(super) fn second(
    spec: &DkimDomainSpec,
    primary: &PerSlot<Selector>,
    policy: &Policy,
) -> Result<Option<(PerSlot<Selector>, Policy)>, Refusal> {
    let Some(wanted) = &spec.second_signature else { return Ok(None) };
    let invalid = |fault: String| Refusal::new(Reason::InvalidSpec, format!("spec.secondSignature{fault}"));
    if policy.kind == KeyKind::Ed25519 {
        return Err(invalid(
            ": the first signature is Ed25519 already; set spec.key.algorithm to RSA, which every receiver verifies, or leave secondSignature out".into(),
        ));
    }
    let selectors = selectors("secondSignature.selectors", &wanted.selectors)?;
    if let Some((_, twice)) = selectors.iter().find(|(_, s)| primary.0.contains(s)) {
        return Err(invalid(format!(
            ".selectors: {twice} is one of spec.selectors as well; a selector names one key, so choose another, such as ed1"
        )));
    }
    let policy =
        Policy { kind: KeyKind::Ed25519, cadence: Cadence::Along, rotate_at: None, ..policy.clone() };
    Ok(Some((selectors, policy)))
}

/// Each key that is brought has a slot, and no slot has two.
pub(super) fn imports(spec: &DkimDomainSpec, lanes: &PerLane<Lane>) -> Result<(), Refusal> {
    for (number, import) in spec.import_keys.iter().enumerate() {
        let invalid = |fault: String| Refusal::invalid(&format!("importKeys[{number}].selector"), fault);
        let all: Vec<String> =
            lanes.iter().flat_map(|(_, l)| l.selectors.0.iter().map(ToString::to_string)).collect();
        if !all.contains(&import.selector) {
            return Err(invalid(format!(
                "{} is none of this domain's selectors ({}); name one of them, or name your key's selector in spec.selectors",
                import.selector,
                all.join(", ")
            )));
        }
        if spec.import_keys.iter().take(number).any(|other| other.selector == import.selector) {
            return Err(invalid(format!("{} has a key already; leave one of the two out", import.selector)));
        }
    }
    Ok(())
}
