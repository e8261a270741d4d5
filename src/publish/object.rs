//! DNSEndpoint objects (externaldns.k8s.io/v1alpha1): what they are called, whose they are, and writing them. One for each
//! place of a record set.
//!
//! They have no owner reference: a record set that is deleted by hand is made again, and its records stay in DNS meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::{
    ANNOTATION_LABELS, ANNOTATION_RECORD_SET, FIELD_MANAGER, LABEL_DOMAIN, LABEL_MANAGED_BY, LABEL_PLACE,
    MANAGED_BY, PublishState,
};
use crate::model::publishing::{Kind, Place};

/// Longest name of an object.
const LONGEST: usize = 253;

/// Why an object is not as it shall be: the state of its records, and words.
pub type Fault = (PublishState, String);

/// What the object of a place is called: the domain, and which of its places.
#[must_use]
pub fn name(domain: &str, place: &Place) -> String {
    let name = format!("{domain}.{}", place.id);
    if name.len() <= LONGEST { name } else { format!("dkim-{}.{}", hash(domain), place.id) }
}

/// What it was called before each place had an object of its own.
#[must_use]
pub fn former_name(domain: &str, kind: Kind) -> String {
    match kind {
        Kind::Keys => domain.to_owned(),
        Kind::Cnames => format!("dkim-cnames-{}", hash(domain)),
    }
}

fn hash(domain: &str) -> String {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(domain));
    hash.get(..40).unwrap_or(&hash).to_owned()
}

/// The objects of one record set in one namespace.
#[derive(Debug, Clone)]
pub struct Objects {
    api: Api<DynamicObject>,
    kind: ApiResource,
    namespace: String,
    /// The record set, as `NAMESPACE/NAME`.
    set: String,
    /// The domain as a label.
    domain: Option<String>,
}

impl Objects {
    /// Those of the record set `set` (`NAMESPACE/NAME`), whose domain is `domain` as a label.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, set: String, domain: Option<String>) -> Self {
        let kind =
            ApiResource::from_gvk(&GroupVersionKind::gvk("externaldns.k8s.io", "v1alpha1", "DNSEndpoint"));
        let api = Api::namespaced_with(client.clone(), namespace, &kind);
        Self { api, kind, namespace: namespace.to_owned(), set, domain }
    }

    /// The names that the first of these objects that is there, and ours, holds.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn held(&self, objects: &[String]) -> Result<BTreeSet<String>, Fault> {
        for name in objects {
            if let Some(there) = self.get(name).await?.filter(|there| self.foreign(there).is_none()) {
                let endpoints = there.data.pointer("/spec/endpoints").and_then(Value::as_array);
                let held =
                    endpoints.into_iter().flatten().filter_map(|endpoint| endpoint["dnsName"].as_str());
                return Ok(held.map(str::to_owned).collect());
            }
        }
        Ok(BTreeSet::new())
    }

    /// Has an object hold `spec`, under `labels` and our own.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn write(
        &self,
        name: &str,
        place: &Place,
        labels: &BTreeMap<String, String>,
        spec: Value,
    ) -> Result<(), Fault> {
        let there = self.get(name).await?;
        if let Some(words) = there.as_ref().and_then(|there| self.foreign(there)) {
            return Err((PublishState::Conflict, words));
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let (mut object, new) = match there {
            Some(there) => (there, false),
            None => (DynamicObject::new(name, &self.kind), true),
        };
        let before = (object.metadata.clone(), object.data.get("spec").cloned());
        self.label(&mut object, place, labels);
        if !new && before == (object.metadata.clone(), Some(spec.clone())) {
            return Ok(());
        }
        match object.data.as_object_mut() {
            Some(data) => _ = data.insert("spec".to_owned(), spec),
            None => object.data = serde_json::json!({ "spec": spec }),
        }
        let written = match new {
            true => self.api.create(&params, &object).await,
            false => self.api.replace(name, &params, &object).await,
        };
        written.map(drop).map_err(|error| self.fault(name, &error))
    }

    /// Gives an object our labels and `labels`, and takes those away that it had by us and that are in neither any more: who selects
    /// by one of them would go on publishing what the object says. Others' labels stay.
    fn label(&self, object: &mut DynamicObject, place: &Place, labels: &BTreeMap<String, String>) {
        let before = object.annotations().get(ANNOTATION_LABELS).cloned().unwrap_or_default();
        let all = object.labels_mut();
        for key in before.split(',') {
            all.remove(key);
        }
        all.extend(labels.clone());
        all.insert(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
        all.insert(LABEL_PLACE.to_owned(), place.id.clone());
        all.extend(self.domain.iter().map(|domain| (LABEL_DOMAIN.to_owned(), domain.clone())));
        let annotations = object.annotations_mut();
        annotations.insert(ANNOTATION_RECORD_SET.to_owned(), self.set.clone());
        match labels.is_empty() {
            true => annotations.remove(ANNOTATION_LABELS),
            false => {
                let keys: Vec<&str> = labels.keys().map(String::as_str).collect();
                annotations.insert(ANNOTATION_LABELS.to_owned(), keys.join(","))
            }
        };
    }

    /// Deletes an object, if it is ours.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn remove(&self, name: &str) -> Result<(), Fault> {
        match self.get(name).await? {
            Some(there) if self.foreign(&there).is_none() => self.delete(&there).await,
            _ => Ok(()),
        }
    }

    /// Deletes the object that held a domain's records before each place had one of its own.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn remove_former(&self, name: &str) -> Result<(), Fault> {
        let Some(there) = self.get(name).await? else { return Ok(()) };
        let marked = there.annotations().contains_key(ANNOTATION_RECORD_SET);
        if marked || self.foreign(&there).is_some() { Ok(()) } else { self.delete(&there).await }
    }

    async fn get(&self, name: &str) -> Result<Option<DynamicObject>, Fault> {
        self.api.get_opt(name).await.map_err(|error| self.fault(name, &error))
    }

    async fn delete(&self, there: &DynamicObject) -> Result<(), Fault> {
        let name = there.name_any();
        let preconditions = Preconditions { uid: there.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.api.delete(&name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(self.fault(&name, &error)),
        }
    }

    fn shown(&self, name: &str) -> String {
        format!("DNSEndpoint {}/{name}", self.namespace)
    }

    /// Words, where the object is not ours.
    fn foreign(&self, there: &DynamicObject) -> Option<String> {
        let shown = self.shown(&there.name_any());
        if there.labels().get(LABEL_MANAGED_BY).is_none_or(|by| by != MANAGED_BY) {
            return Some(format!(
                "{shown} exists and was not made by this operator, so it is left alone; rename or delete it"
            ));
        }
        let other = there.annotations().get(ANNOTATION_RECORD_SET).filter(|set| **set != self.set)?;
        Some(format!(
            "{shown} is made from the DkimRecordSet {other}, ours is {}: another installation of this operator publishes here, so the object is left alone. Set another publish.dnsEndpoint.namespace; or if that installation is gone, remove the annotation {ANNOTATION_RECORD_SET} from the object, then it is taken over",
            self.set
        ))
    }

    /// The words of an API error.
    fn fault(&self, name: &str, error: &kube::Error) -> Fault {
        let (shown, namespace) = (self.shown(name), &self.namespace);
        let words = match error {
            kube::Error::Api(status) if status.code == 403 => format!(
                "the operator may not write {shown}; add {namespace} to publish.dnsEndpointNamespaces of the chart"
            ),
            kube::Error::Api(status) if status.code == 404 => format!(
                "{shown} cannot be written: the kind DNSEndpoint is not there, or the namespace is not; install external-dns's CustomResourceDefinition dnsendpoints.externaldns.k8s.io"
            ),
            // Somebody was faster; the next try, soon, sees what it is now.
            kube::Error::Api(status) if status.code == 409 => {
                return (
                    PublishState::Pending,
                    format!("{shown} has changed meanwhile; it is written again"),
                );
            }
            kube::Error::Api(status) => format!("{shown} cannot be written: {}", status.message),
            _ => format!("{shown} cannot be written: the API server does not answer"),
        };
        (PublishState::Failed, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ZoneSpec;

    fn place(id: &str) -> Place {
        let zone = ZoneSpec {
            apex: "onmail.example".into(),
            name_servers: Vec::new(),
            negative_ttl: 60,
            outlet: None,
        };
        let (wanted, unwanted) = (BTreeMap::new(), BTreeSet::new());
        Place { id: id.to_owned(), zone, kind: Kind::Keys, leaving: false, wanted, unwanted }
    }

    fn objects() -> Objects {
        let config = kube::Config::new("http://localhost:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        Objects::new(&client, "external-dns", "dkim-system/contoso.com".into(), Some("contoso.com".into()))
    }

    #[tokio::test]
    async fn labels_taken_out_of_the_settings_go_and_others_stay() {
        let objects = objects();
        let labels = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "v".to_owned())).collect();
        let mut object = DynamicObject::new("contoso.com.p", &objects.kind);
        object.labels_mut().insert("somebody-elses".into(), "v".into());
        let keys = |object: &DynamicObject| object.labels().keys().cloned().collect::<Vec<_>>().join(" ");
        let own = "app.kubernetes.io/managed-by dkim-operator.io/domain-name dkim-operator.io/place";
        objects.label(&mut object, &place("p"), &labels(&["dns", "team"]));
        assert_eq!(keys(&object), format!("{own} dns somebody-elses team"));
        let written = object.metadata.clone();
        objects.label(&mut object, &place("p"), &labels(&["dns", "team"]));
        assert_eq!(object.metadata, written, "nothing is written again");
        objects.label(&mut object, &place("p"), &labels(&["team"]));
        assert_eq!(keys(&object), format!("{own} somebody-elses team"));
        objects.label(&mut object, &place("p"), &labels(&[]));
        assert_eq!(keys(&object), format!("{own} somebody-elses"));
        assert!(!object.annotations().contains_key(ANNOTATION_LABELS));
    }

    #[tokio::test]
    async fn an_object_that_has_changed_meanwhile_is_no_failure() {
        let status = |code| kube::Error::Api(Box::new(kube::core::Status { code, ..Default::default() }));
        let objects = objects();
        assert_eq!(objects.fault("contoso.com.p", &status(409)).0, PublishState::Pending);
        assert_eq!(objects.fault("contoso.com.p", &status(500)).0, PublishState::Failed);
    }

    #[test]
    fn each_place_of_each_domain_has_an_object_of_its_own() {
        let long =
            format!("{}.example", ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(50)].join("."));
        let mut names = BTreeSet::new();
        for domain in ["contoso.com", "a-b.com", "a.b.com", long.as_str()] {
            for id in ["0123456789abcdef", "fedcba9876543210"] {
                let name = name(domain, &place(id));
                assert!(name.len() <= 253 && name.ends_with(id), "{name}");
                names.insert(name);
            }
        }
        assert_eq!(names.len(), 8);
        assert!(names.contains("contoso.com.0123456789abcdef"));
    }
}
