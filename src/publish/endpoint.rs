//! Publishing through external-dns: one DNSEndpoint object (externaldns.k8s.io/v1alpha1) for each record set. Its status
//! does not say whether anything was published, so DNS itself is asked.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::sight;
use crate::api::{
    DnsEndpointSettings, FIELD_MANAGER, LABEL_MANAGED_BY, MANAGED_BY, PublishState, RecordState, Verification,
};
use crate::model::name::DnsName;
use crate::model::publishing::{Kind, Mark, Place, mark_name, remembered};
use crate::model::record::zone_file_txt;

/// What to wait for, in words.
const AWAITED: &str = "external-dns publishes it; if this lasts, look at its log, and see that it runs with --source=crd, --managed-record-types=TXT and a domain filter that covers the name";

/// The same for tenants' CNAMEs.
const AWAITED_CNAME: &str = "external-dns publishes it; if this lasts, look at its log, and see that it runs with --source=crd, --managed-record-types=CNAME, --managed-record-types=TXT and a domain filter that covers the name";

/// The name of the object with a domain's CNAMEs. No domain is named like that, as it is a single label: the object with the keys is
/// named after its domain.
#[must_use]
pub fn cnames_object(domain: &str) -> String {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(domain));
    format!("dkim-cnames-{}", hash.get(..40).unwrap_or(&hash))
}

/// Where objects are written.
pub struct Endpoints<'a> {
    /// The API server.
    pub client: &'a Client,
    /// The operator's namespace.
    pub namespace: &'a str,
    /// The name of the objects: the record set's.
    pub name: &'a str,
    /// How DNS is asked.
    pub verification: &'a Verification,
}

impl Endpoints<'_> {
    /// Brings about what shall be at a place, and says how it stands with each record.
    pub async fn bring_about(
        &self,
        place: &Place,
        settings: &DnsEndpointSettings,
        mark: &Mark,
    ) -> Vec<RecordState> {
        let namespace = settings.namespace.as_deref().unwrap_or(self.namespace);
        if place.kind == Kind::Cnames {
            return self.cnames(namespace, place, settings, mark).await;
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
            return place.wanted.keys().map(failed).collect();
        }
        if let Err(fault) = self.write(namespace, place, settings, mark).await {
            return unwritten(place, &fault);
        }
        // What is in the object no more is external-dns's to remove; whether its policy lets it is not ours to know.
        let seen = place.wanted.iter().zip(&before);
        seen.map(|((name, wanted), answers)| sight::judge(name, wanted, answers, Some(mark), AWAITED))
            .collect()
    }

    /// The tenant's CNAMEs. Whether external-dns would overwrite somebody else's depends on how it is run, so that a name where
    /// one is seen stays out of the object.
    async fn cnames(
        &self,
        namespace: &str,
        place: &Place,
        settings: &DnsEndpointSettings,
        mark: &Mark,
    ) -> Vec<RecordState> {
        let looks = place.wanted.iter().map(|(name, wanted)| async move {
            sight::judge_cname(
                name,
                wanted,
                &sight::links(self.verification, name).await,
                mark,
                AWAITED_CNAME,
            )
        });
        let states = join_all(looks).await;
        let mut ours = place.clone();
        for state in states.iter().filter(|state| state.state == PublishState::Conflict) {
            ours.wanted.retain(|name, _| name.as_str() != state.name);
        }
        match self.write(namespace, &ours, settings, mark).await {
            Ok(()) => states,
            Err(fault) => unwritten(place, &fault),
        }
    }

    async fn write(
        &self,
        namespace: &str,
        place: &Place,
        settings: &DnsEndpointSettings,
        mark: &Mark,
    ) -> Result<(), (PublishState, String)> {
        let kind =
            ApiResource::from_gvk(&GroupVersionKind::gvk("externaldns.k8s.io", "v1alpha1", "DNSEndpoint"));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind);
        let shown = format!("DNSEndpoint {namespace}/{}", self.name);
        let failed = |error: kube::Error| (PublishState::Failed, fault(&shown, namespace, &error));
        let there = api.get_opt(self.name).await.map_err(failed)?;
        if let Some(there) = &there
            && there.labels().get(LABEL_MANAGED_BY).is_none_or(|by| by != MANAGED_BY)
        {
            let words = format!(
                "{shown} exists and was not made by this operator, so it is left alone; rename or delete it"
            );
            return if place.wanted.is_empty() { Ok(()) } else { Err((PublishState::Conflict, words)) };
        }
        if place.wanted.is_empty() {
            let Some(there) = there else { return Ok(()) };
            let preconditions = Preconditions { uid: there.uid(), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            return match api.delete(self.name, &params).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(failed(error)),
            };
        }
        let mut labels: BTreeMap<String, String> = settings.labels.clone();
        labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
        let spec = json!({ "endpoints": endpoints(place, mark) });
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match there {
            None => {
                let mut object = DynamicObject::new(self.name, &kind);
                object.metadata.labels = Some(labels);
                object.data = json!({ "spec": spec });
                api.create(&params, &object).await.map_err(failed)?;
            }
            Some(mut object) => {
                let same = object.data.get("spec") == Some(&spec)
                    && labels.iter().all(|(key, value)| object.labels().get(key) == Some(value));
                if same {
                    return Ok(());
                }
                object.labels_mut().extend(labels);
                object.data["spec"] = spec;
                api.replace(self.name, &params, &object).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// How it stands with the records of a place whose object could not be written.
fn unwritten(place: &Place, (state, words): &(PublishState, String)) -> Vec<RecordState> {
    let all = place.wanted.keys().map(|name| (name, *state));
    let gone = place.unwanted.iter().map(|name| (name, PublishState::Withdrawing));
    all.chain(gone)
        .map(|(name, state)| RecordState { name: name.to_string(), state, message: words.clone() })
        .collect()
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

/// The words of an API error.
fn fault(shown: &str, namespace: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "the operator may not write {shown}; add {namespace} to publish.dnsEndpointNamespaces of the chart"
        ),
        kube::Error::Api(status) if status.code == 404 => format!(
            "{shown} cannot be written: the kind DNSEndpoint is not there, or the namespace is not; install external-dns's CustomResourceDefinition dnsendpoints.externaldns.k8s.io"
        ),
        kube::Error::Api(status) => format!("{shown} cannot be written: {}", status.message),
        _ => format!("{shown} cannot be written: the API server does not answer"),
    }
}
