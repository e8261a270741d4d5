//! Acknowledgement: which signers still use a key, or names of before a move, that they should have left, from what
//! each says in its Lease.
//!
//! A signer that follows the API says how far it has come (a resourceVersion), so that one number answers for any number
//! of domains. The [`Roster`] remembers with which version of a Secret its present keys were first told; a signer that has
//! come at least that far has left the keys of before. It is told of each renewal, and names the domains for which that
//! was the last one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use self::ask::{Ask, Names, Signer};
use super::key::KeyFingerprint;
use super::keyring::{Mode, Phase, later};
use super::lanes::{LaneId, PerLane};
use super::selector::PerSlot;
use super::vault::Vault;
use crate::api::SignerReport;

mod ask;
#[cfg(test)]
mod tests;

/// How often a domain that is held is looked at again, so that what is told of it stays true.
const REFRESH: SignedDuration = SignedDuration::from_secs(60);
/// How long a watch that failed is taken to be broken: longer than the pause before it is tried again.
const DEAF: SignedDuration = SignedDuration::from_secs(60);
/// The longest time that a Lease is believed to last.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);
/// How long a Lease that has run out is remembered and shown, and the longest time that it may hold a key still.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// Most signers that count in one namespace: whoever may write Leases there must not fill the memory of the controller.
pub const MOST_SIGNERS: usize = 2_000;

/// A DkimDomain, by namespace and name.
pub type Who = (String, String);

/// A Lease as it was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its resourceVersion: one that is heard twice has not been renewed.
    pub version: String,
    /// What it says.
    pub says: SignerReport,
    /// When it was renewed, by the signer's clock.
    pub renewed: Timestamp,
    /// For how long.
    pub lasts: SignedDuration,
    /// It was listed, not seen to change: it may have been renewed long ago.
    pub listed: bool,
}

#[derive(Debug, Default)]
struct Place {
    signers: BTreeMap<String, Signer>,
    /// Leases that do not count, because there are too many.
    surplus: BTreeSet<String>,
    /// The domains that wait for the slowest signer to come as far as a version.
    waiting: BTreeSet<(u64, Who)>,
}

/// A key Secret as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub secret: &'a str,
    /// Its resourceVersion; none where that is no number.
    pub version: Option<u64>,
    /// What is in it.
    pub vault: &'a Vault,
    /// The longest time for which a signer may go on with what it read before.
    pub lag: SignedDuration,
}

/// What signers say of one domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// In which slots a key is held for a signer.
    pub in_use: PerLane<PerSlot<bool>>,
    /// Whether names of before a move are held for a signer, be it within its lag.
    pub former_in_use: bool,
    /// Whether such a signer is late, which is to be told.
    pub former_overdue: bool,
    /// The signers that use a key which they should have left, by the names of their Leases: those that are waited for.
    pub behind: Vec<String>,
    /// And those that are not heard of any more and not waited for.
    pub lost: Vec<String>,
    /// When to look again even if nothing is heard.
    pub wake: Option<Timestamp>,
}

/// How many signers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// That use no key which they should have left.
    pub current: usize,
    /// That live and use one for longer than the signer lag.
    pub behind: usize,
    /// That are not heard of any more, and have not said good-bye.
    pub lost: usize,
    /// That do not count, because there are more than [`MOST_SIGNERS`] in their namespace.
    pub uncounted: usize,
    /// For how long a signer that is waited for has been asked to leave a key, at most.
    pub longest: SignedDuration,
}

/// All signers that report, and what they are asked.
#[derive(Debug, Default)]
pub struct Roster {
    places: HashMap<String, Place>,
    asks: HashMap<Who, Ask>,
    /// Since when watches of Leases fail, and when they did last: of the signers that lived then, silence proves nothing.
    deaf: HashMap<String, (Timestamp, Timestamp)>,
}

impl Roster {
    /// A Lease was renewed or listed. The domains that wait no more.
    pub fn hear(&mut self, namespace: &str, name: &str, heard: Heard, now: Timestamp) -> Vec<Who> {
        let Heard { version, says, renewed, lasts, listed } = heard;
        let place = self.places.entry(namespace.to_owned()).or_default();
        if place.signers.len() >= MOST_SIGNERS && !place.signers.contains_key(name) {
            if place.surplus.len() < MOST_SIGNERS {
                place.surplus.insert(name.to_owned());
            }
            return Vec::new();
        }
        place.surplus.remove(name);
        let same = place.signers.get(name).filter(|before| before.version == version);
        let lasts = lasts.clamp(SignedDuration::ZERO, LONGEST);
        // Its clock may be slow: it lives for as long as if it had renewed just now, and is heard of by then if it does.
        let fresh = || {
            let known = if listed { renewed.min(now) } else { now };
            (later(now, lasts), later(known, lasts))
        };
        let (until, ends) = same.map_or_else(fresh, |before| (before.until, before.ends));
        place.signers.insert(name.to_owned(), Signer { version, says, until, ends });
        self.released(namespace, now)
    }

    /// A Lease is gone. The domains that wait no more.
    pub fn gone(&mut self, namespace: &str, name: &str, now: Timestamp) -> Vec<Who> {
        if let Some(place) = self.places.get_mut(namespace) {
            place.signers.remove(name);
            place.surplus.remove(name);
        }
        self.released(namespace, now)
    }

    /// Everything was listed: Leases of a namespace that are not among `there` are gone.
    pub fn keep(&mut self, namespace: &str, there: &BTreeSet<String>, now: Timestamp) -> Vec<Who> {
        if let Some(place) = self.places.get_mut(namespace) {
            place.signers.retain(|name, _| there.contains(name));
            place.surplus.retain(|name| there.contains(name));
        }
        self.released(namespace, now)
    }

    /// The namespaces with Leases.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// A watch of Leases works, or fails.
    pub fn hearing(&mut self, watch: &str, works: bool, now: Timestamp) {
        if works {
            self.deaf.remove(watch);
        } else {
            let outage = self.deaf.entry(watch.to_owned()).or_insert((now, now));
            let since = if later(outage.1, DEAF) > now { outage.0 } else { now };
            *outage = (since, now);
        }
    }

    /// Since when a watch fails.
    fn deaf_since(&self, now: Timestamp) -> Option<Timestamp> {
        let lasting = self.deaf.values().filter(|(_, last)| later(*last, DEAF) > now);
        lasting.map(|(first, _)| *first).min()
    }

    /// Whether it is heard of.
    fn lives(&self, signer: &Signer, now: Timestamp) -> bool {
        self.lasts(signer.until, now)
    }

    /// Whether it is waited for: it is heard of, or what signs may go on without it.
    fn holds(&self, signer: &Signer, now: Timestamp) -> bool {
        self.lasts(signer.holds_until(), now)
    }

    /// Whether a time is not over that renewals extend.
    fn lasts(&self, until: Timestamp, now: Timestamp) -> bool {
        // A watch may have been broken for a while before that was noticed.
        let then = |since: Timestamp| later(until, DEAF) > since;
        until > now || self.deaf_since(now).is_some_and(then)
    }

    /// Those who wait for no more than the slowest signer that follows the API has come to.
    fn released(&mut self, namespace: &str, now: Timestamp) -> Vec<Who> {
        if self.places.get(namespace).is_none_or(|place| place.waiting.is_empty()) {
            return Vec::new();
        }
        let floor = self.floor(namespace, now);
        let Some(place) = self.places.get_mut(namespace) else { return Vec::new() };
        let stay = match floor {
            Some(version) => place.waiting.split_off(&(version.saturating_add(1), Who::default())),
            None => BTreeSet::new(),
        };
        std::mem::replace(&mut place.waiting, stay).into_iter().map(|(_, who)| who).collect()
    }

    fn floor(&self, namespace: &str, now: Timestamp) -> Option<u64> {
        let place = self.places.get(namespace)?;
        place.signers.values().filter(|s| self.holds(s, now)).filter_map(|s| s.says.version).min()
    }

    /// What signers say of a domain whose Secret is stored like this. Between the same keys it goes by the version in
    /// which they were first seen: what else is written into the Secret asks nothing of signers.
    pub fn look(&mut self, who: &Who, told: Told<'_>, now: Timestamp) -> Acknowledged {
        let Told { namespace, secret, version, vault, lag } = told;
        let slots = || vault.rings.iter().flat_map(|(_, ring)| ring.slots.0.iter());
        let left: BTreeSet<String> = slots()
            .filter(|slot| matches!(slot.phase, Phase::Draining { .. }))
            .filter_map(|slot| slot.phase.key().map(|key| SignerReport::name_of(&key.fingerprint)))
            .collect();
        self.wait_no_more(who);
        let names_left = vault.former.iter().any(|former| former.withdrawn.is_none());
        let (Some(version), true) = (version, names_left || !left.is_empty()) else {
            self.asks.remove(who);
            return Acknowledged {
                in_use: vault.rings.map(|_, _| PerSlot::default()),
                ..Acknowledged::default()
            };
        };
        let uses: Vec<KeyFingerprint> = slots()
            .filter(|slot| matches!(slot.phase, Phase::Active { .. }))
            .filter_map(|slot| slot.phase.key().map(|key| key.fingerprint.clone()))
            .collect();
        let of_secret = |ask: &Ask| ask.secret == secret && ask.namespace == namespace;
        let known = self.asks.remove(who).filter(of_secret);
        // Whoever signs as the domain signs by names of its own.
        let modes = vault.rings.iter().filter(|(_, ring)| ring.mode == Mode::Default);
        let lanes: Vec<LaneId> = modes.map(|(lane, _)| lane).collect();
        let home = || format!("{}.{}", vault.home.guid, vault.home.initial_domain);
        let by = (!lanes.is_empty()).then(|| (lanes, home()));
        let names = match known.as_ref().map(|ask| &ask.names).filter(|names| names.told == by) {
            Some(same) => Names { left: names_left, ..same.clone() },
            None => Names { told: by, version, since: now, left: names_left },
        };
        let ask = match known.filter(|ask| ask.told == uses) {
            Some(known) => Ask { lag, left, names, ..known },
            None => Ask {
                namespace: namespace.to_owned(),
                secret: secret.to_owned(),
                domain: vault.domain.clone(),
                told: uses,
                version,
                since: now,
                lag,
                left,
                names,
            },
        };
        let acknowledged = self.answer(&ask, vault, now);
        if !acknowledged.behind.is_empty()
            && self.floor(namespace, now).is_some_and(|floor| floor < ask.all_by())
            && let Some(place) = self.places.get_mut(namespace)
        {
            place.waiting.insert((ask.all_by(), who.clone()));
        }
        self.asks.insert(who.clone(), ask);
        acknowledged
    }

    fn answer(&self, ask: &Ask, vault: &Vault, now: Timestamp) -> Acknowledged {
        let signers = || self.places.get(&ask.namespace).into_iter().flat_map(|place| place.signers.iter());
        let overdue = |since| later(since, ask.lag) <= now;
        let mut held_any = false;
        let in_use = vault.rings.map(|_, ring| {
            PerSlot::from_fn(|slot| {
                let Phase::Draining { key, held, until, .. } = &ring.slots[slot].phase else { return false };
                let left = SignerReport::name_of(&key.fingerprint);
                let used = signers().any(|(_, s)| self.holds(s, now) && s.is_behind(ask, &left));
                held_any |= *held;
                // Within the lag nothing has to be held: the drain counts from its end.
                used && (*held || overdue(ask.since) || *until <= now)
            })
        });
        let elsewhere = signers().any(|(_, s)| self.holds(s, now) && s.is_elsewhere(ask));
        let held = |reached| vault.former.iter().any(|former| former.held && former.reached == reached);
        let (for_signer, for_cname) = (held(false), held(true));
        let ends = vault
            .former
            .iter()
            .any(|former| former.until <= now && !former.held && former.withdrawn.is_none());
        // What is held for a signer was overdue once, whatever this roster has seen of it. Beside names that a CNAME may
        // lead to, all are held for one that is merely asked.
        let former_overdue = elsewhere && (overdue(ask.names.since) || ends || (for_signer && !for_cname));
        let former_in_use = elsewhere && (former_overdue || for_signer || for_cname);
        held_any |= former_overdue;
        let mut answer = Acknowledged { in_use, former_in_use, former_overdue, ..Acknowledged::default() };
        let mut wakes = Vec::new();
        for (name, signer) in signers().filter(|(_, s)| s.is_late(ask)) {
            if self.holds(signer, now) {
                answer.behind.push(name.clone());
                // While no Lease can be heard, none runs out.
                wakes.extend(Some(signer.holds_until()).filter(|until| *until > now));
            } else {
                answer.lost.push(name.clone());
            }
        }
        if !answer.behind.is_empty() {
            let soon = later(now, REFRESH);
            let due = ask.due().filter(|at| *at > now && !held_any).min();
            wakes.push(due.unwrap_or(soon));
        }
        answer.wake = wakes.into_iter().min();
        answer
    }

    fn wait_no_more(&mut self, who: &Who) {
        if let Some(ask) = self.asks.get(who)
            && let Some(place) = self.places.get_mut(&ask.namespace)
        {
            place.waiting.remove(&(ask.all_by(), who.clone()));
        }
    }

    /// Drops what is kept for a DkimDomain.
    pub fn forget(&mut self, who: &Who) {
        self.wait_no_more(who);
        self.asks.remove(who);
    }

    /// Counts the signers.
    #[must_use]
    pub fn census(&self, now: Timestamp) -> Census {
        let mut asked: HashMap<&str, Vec<&Ask>> = HashMap::new();
        for ask in self.asks.values() {
            if ask.due().any(|due| due <= now) {
                asked.entry(&ask.namespace).or_default().push(ask);
            }
        }
        let mut census = Census::default();
        for (namespace, place) in &self.places {
            census.uncounted += place.surplus.len();
            let asks = asked.get(namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
            for signer in place.signers.values() {
                let since = asks.iter().filter_map(|ask| signer.late_since(ask, now)).min();
                if let Some(since) = since.filter(|_| self.holds(signer, now)) {
                    census.longest = census.longest.max(now.duration_since(since));
                }
                match since {
                    _ if !self.lives(signer, now) => census.lost += 1,
                    Some(_) => census.behind += 1,
                    None => census.current += 1,
                }
            }
        }
        census
    }

    /// The Leases that ran out so long ago that nobody wants to hear of them, by namespace and name.
    #[must_use]
    pub fn forgotten(&self, now: Timestamp) -> Vec<(String, String)> {
        let hears = self.deaf_since(now).is_none();
        let old = |signer: &Signer| later(signer.ends, REMEMBERED) <= now && signer.until <= now && hears;
        let of = |(namespace, place): (&String, &Place)| {
            let names = place.signers.iter().filter(|(_, signer)| old(signer)).map(|(name, _)| name.clone());
            names.map(|name| (namespace.clone(), name)).collect::<Vec<_>>()
        };
        self.places.iter().flat_map(of).collect()
    }
}
