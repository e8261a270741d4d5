//! Publishing through external-dns: one DNSEndpoint object for each place of a record set. Its status does not say whether
//! anything was published, so DNS itself is asked.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::Client;
use serde_json::{Value, json};

use super::object::{self, Fault, Objects};
use super::sight::{self, Advice};
use crate::api::{DnsEndpointSettings, PublishState, RecordState, Verification};
use crate::model::name::DnsName;
use crate::model::publishing::{Kind, Mark, Place, mark_name, remembered};
use crate::model::record::zone_file_txt;

/// What to wait for, and what to look at if it does not come.
const ADVICE: Advice<'static> = Advice {
    missing: "external-dns publishes it; if this lasts, look at its log, and see that it runs with --source=crd, --managed-record-types=TXT and a domain filter that covers the name",
    another: "external-dns replaces it; if this lasts, look at its log: with --registry=txt it never changes a TXT before its version 0.22, nor one that it has not published itself",
    surplus: ". external-dns leaves what it cannot take away: its provider rfc2136 can neither change nor remove a TXT like this. Where it publishes by that, have the operator do so itself: spec.publish.method RFC2136",
};

/// The same for tenants' CNAMEs.
const AWAITED_CNAME: &str = "external-dns publishes it; if this lasts, look at its log, and see that it runs with --source=crd, --managed-record-types=CNAME, --managed-record-types=TXT and a domain filter that covers the name";

/// Where objects are written.
pub struct Endpoints<'a> {
    /// The API server.
    pub client: &'a Client,
    /// The operator's namespace.
    pub home: &'a str,
    /// The record set's name: the domain.
    pub domain: &'a str,
    /// The domain as a label.
    pub label: Option<&'a str>,
    /// How DNS is asked.
    pub verification: &'a Verification,
}

/// What was done at a place.
pub struct Brought {
    /// How it stands with each record.
    pub records: Vec<RecordState>,
    /// Whether the object is as it shall be.
    pub written: bool,
    /// Other places of ours that publish wanted names into the same zone, or did so until now, each with such a name.
    pub beside: BTreeMap<String, DnsName>,
}

impl Brought {
    /// What was done without a server that others publish into as well.
    pub fn new(records: Vec<RecordState>, written: bool) -> Self {
        Self { records, written, beside: BTreeMap::new() }
    }
}

impl Endpoints<'_> {
    /// Brings about what shall be at a place, and says how it stands with each record.
    pub async fn bring_about(&self, place: &Place, settings: &DnsEndpointSettings, mark: &Mark) -> Brought {
        if place.kind == Kind::Cnames {
            return self.cnames(place, settings, mark).await;
        }
        let looks = place.wanted.keys().map(|name| sight::answers(self.verification, name));
        let before = join_all(looks).await;
        let theirs = before.iter().flatten().filter_map(|answer| answer.negative_ttl).max();
        if let Some(words) =
            theirs.and_then(|theirs| remembered(&place.zone.apex, theirs, place.zone.negative_ttl))
        {
            let failed = |name: &DnsName| RecordState {
                name: name.to_string(),
                state: PublishState::Failed,
                message: words.clone(),
            };
            return Brought::new(place.wanted.keys().map(failed).collect(), false);
        }
        if let Err(fault) = self.write(place, settings, mark).await {
            return unwritten(place, &fault);
        }
        // What is in the object no more is external-dns's to remove; whether its policy lets it is not ours to know.
        let seen = place.wanted.iter().zip(&before);
        let judge = |((name, wanted), answers): ((&DnsName, _), &Vec<_>)| {
            sight::judge(name, wanted, answers, Some(mark), &ADVICE)
        };
        Brought::new(seen.map(judge).collect(), true)
    }

    /// Deletes the objects that held the records of a place before it had one of its own.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn remove_former(&self, place: &Place, settings: &DnsEndpointSettings) -> Result<(), Fault> {
        self.objects(settings).remove_former(&object::former_name(self.domain, place.kind)).await
    }

    /// The tenant's CNAMEs. Whether external-dns would overwrite somebody else's depends on how it is run, so that a name where
    /// one is seen is not added to the object. A name that is in it stays: what is taken out external-dns deletes, and mail of the
    /// tenant's with it, for what may have been no more than an answer that was lost.
    async fn cnames(&self, place: &Place, settings: &DnsEndpointSettings, mark: &Mark) -> Brought {
        let looks = place.wanted.iter().map(|(name, wanted)| async move {
            let links = sight::links(self.verification, name).await;
            let occupied = sight::is_occupied(wanted, &links, mark);
            (name, occupied, sight::judge_cname(name, wanted, &links, mark, AWAITED_CNAME))
        });
        let seen = join_all(looks).await;
        let objects = self.objects(settings);
        let names = [object::name(self.domain, place), object::former_name(self.domain, place.kind)];
        let held = match objects.held(&names).await {
            Ok(held) => held,
            Err(fault) => return unwritten(place, &fault),
        };
        let mut ours = place.clone();
        for (name, ..) in seen.iter().filter(|(name, occupied, _)| *occupied && !held.contains(name.as_str()))
        {
            ours.wanted.remove(name);
        }
        match self.write(&ours, settings, mark).await {
            Ok(()) => Brought::new(seen.into_iter().map(|(.., state)| state).collect(), true),
            Err(fault) => unwritten(place, &fault),
        }
    }

    async fn write(&self, place: &Place, settings: &DnsEndpointSettings, mark: &Mark) -> Result<(), Fault> {
        let name = object::name(self.domain, place);
        let objects = self.objects(settings);
        if place.wanted.is_empty() {
            return objects.remove(&name).await;
        }
        let spec = json!({ "endpoints": endpoints(place, mark) });
        objects.write(&name, place, &settings.labels, spec).await
    }

    fn objects(&self, settings: &DnsEndpointSettings) -> Objects {
        let namespace = settings.namespace.as_deref().unwrap_or(self.home);
        let set = format!("{}/{}", self.home, self.domain);
        Objects::new(self.client, namespace, set, self.label.map(str::to_owned))
    }
}

/// How it stands with the records of a place whose object could not be written.
fn unwritten(place: &Place, (state, words): &Fault) -> Brought {
    let all = place.wanted.keys().map(|name| (name, *state));
    let gone = place.unwanted.iter().map(|name| (name, PublishState::Withdrawing));
    let of =
        |(name, state): (&DnsName, _)| RecordState { name: name.to_string(), state, message: words.clone() };
    Brought::new(all.chain(gone).map(of).collect(), false)
}

/// The endpoints of a place: each record and its mark. Targets are written as in a zone file, quoted and cut into
/// strings of 255 bytes, as external-dns asks for (RFC 1035 §3.3.14).
fn endpoints(place: &Place, mark: &Mark) -> Vec<Value> {
    let endpoint = |name: &DnsName, kind: &str, ttl: u32, target: String| json!({ "dnsName": name.as_str(), "recordType": kind, "recordTTL": ttl, "targets": [target] });
    let of = |(name, wanted): (&DnsName, &crate::model::publishing::Wanted)| {
        let own = match place.kind {
            Kind::Keys => endpoint(name, "TXT", wanted.ttl, zone_file_txt(&wanted.text)),
            Kind::Cnames => endpoint(name, "CNAME", wanted.ttl, wanted.text.clone()),
        };
        let text = zone_file_txt(&mark.to_string());
        let mark = mark_name(name).ok().map(|at| endpoint(&at, "TXT", wanted.ttl, text));
        std::iter::once(own).chain(mark).collect::<Vec<_>>()
    };
    place.wanted.iter().flat_map(of).collect()
}
