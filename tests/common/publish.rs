//! Providers that publish on servers of their own.

use std::net::SocketAddr;
use std::time::Duration;

use dkim_operator::api::{DkimRecordSet, PublishMethod, PublishState, PublishedRecord, ZoneSpec};
use dkim_operator::model::publishing::{Mark, place_id};
use dkim_testbed::operator::NAMESPACE;
use dkim_testbed::{TsigKey, eventually, nsupdate};
use serde_json::{Value, json};

use super::servers::{Make, Server};
use super::{Outcome, World};

pub const BOUND: Duration = Duration::from_secs(45);

/// A server with a provider that publishes on it.
pub struct Site {
    pub server: Server,
    pub key: TsigKey,
    pub provider: String,
    pub zone: String,
}

/// The settings of a provider that publishes on a server.
pub fn settings(server: &Server, key: &TsigKey, zone: &str, secret: &str) -> Value {
    rfc2136(server.address(), key, zone, secret)
}

/// The same for a server at an address.
pub fn rfc2136(server: SocketAddr, key: &TsigKey, zone: &str, secret: &str) -> Value {
    json!({
        "method": "RFC2136", "zone": zone, "nameServers": [],
        "rfc2136": {
            "server": server.to_string(),
            "tsig": { "keyName": key.name, "algorithm": key.algorithm, "secretRef": { "name": secret } },
        },
    })
}

pub async fn put_key(world: &World, name: &str, key: &TsigKey) -> Outcome {
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "stringData": { "secret": key.secret },
        "metadata": { "name": name, "namespace": NAMESPACE } });
    world.apply(&secret).await?;
    Ok(())
}

/// Takes the embedded servers out of a zone's delegation; the resolver forgets what it knew of it, as the zone's own NS
/// records live an hour there.
pub async fn leave_embedded(world: &World, zone: &str) -> Outcome {
    for ns in world.operator.name_servers() {
        world.tree.root().remove_record(zone, "NS", Some(&format!("{ns}."))).await?;
    }
    world.tree.unbound().flush_name(zone).await?;
    Ok(())
}

impl Site {
    pub async fn new(
        world: &World,
        label: &str,
        make: Make,
        algorithm: &str,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let key = TsigKey::random("dkim-operator", algorithm);
        let server = Server::start(make, &key).await?;
        let zone = format!("{label}.example");
        server.add_zone(&zone, 1).await?;
        world.tree.delegate(&zone, &format!("ns1.{zone}"), server.address().ip()).await?;
        let (provider, secret) = (label.to_owned(), format!("tsig-{label}"));
        put_key(world, &secret, &key).await?;
        let publish = settings(&server, &key, &zone, &secret);
        world.apply(&world.provider_in(&provider, &zone, publish)).await?;
        Ok(Self { server, key, provider, zone })
    }

    pub fn reference(&self) -> Value {
        json!({ "providerRef": { "name": self.provider } })
    }

    /// Where the key of a domain's first slot is.
    pub fn record(&self, namespace: &str, domain: &str) -> String {
        let guid = domain.replace('-', "--").replace('.', "-");
        format!("selector1-{guid}._domainkey.{namespace}.{}", self.zone)
    }

    pub async fn foreign(&self, commands: &str) -> Outcome {
        nsupdate(self.server.address(), &self.key, &self.zone, commands).await?;
        Ok(())
    }
}

/// Waits until the record set is as it should be.
pub async fn until_set<T>(
    world: &World,
    domain: &str,
    what: &str,
    check: impl Fn(&DkimRecordSet) -> Result<T, String>,
) -> Result<T, dkim_testbed::Error> {
    let api = world.record_sets();
    eventually(BOUND, what, || async { check(&api.get(domain).await.map_err(|e| e.to_string())?) }).await
}

/// The states and messages of a record set, place by place.
pub fn states(set: &DkimRecordSet) -> Vec<(bool, PublishState, String)> {
    let places = set.status.iter().flat_map(|status| &status.places);
    places.flat_map(|p| p.records.iter().map(|r| (p.leaving, r.state, r.message.clone()))).collect()
}

/// The methods of the places in a record set's status, with whether they are being left.
pub fn methods(set: &DkimRecordSet) -> Vec<(PublishMethod, bool)> {
    let places = set.status.iter().flat_map(|status| &status.places);
    let method = |zone: &ZoneSpec| zone.outlet.as_ref().map_or(PublishMethod::Embedded, |o| o.method);
    places.map(|place| (method(&place.zone), place.leaving)).collect()
}

/// Makes the kind DNSEndpoint known.
pub async fn know_endpoints(world: &World) -> Outcome {
    world.apply(&definition()).await?;
    eventually(BOUND, "the definition is served", || async {
        let output = world.plane.kubectl(["get", "dnsendpoints", "-A"]).await.map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    })
    .await?;
    Ok(())
}

/// Lets the operator write DNSEndpoints in a namespace, as its chart does.
pub async fn let_endpoints(world: &World, namespace: &str) -> Outcome {
    let role = ["create", "role", "endpoints", "--verb=get,create,update,delete"];
    let role = [&role[..], &["--resource=dnsendpoints.externaldns.k8s.io", "-n", namespace]].concat();
    world.plane.kubectl(role).await?.ok()?;
    let account = "--serviceaccount=dkim-system:dkim-operator-controller";
    let binding = ["create", "rolebinding", "endpoints", "--role=endpoints", account, "-n", namespace];
    world.plane.kubectl(binding).await?.ok()?;
    Ok(())
}

/// The object with a record set's keys as an earlier version wrote it: one for each domain, named after it.
pub fn former_object(set: &DkimRecordSet, namespace: &str, owner: &str) -> Value {
    let domain = set.metadata.name.as_deref().expect("a name");
    let mark = Mark { owner: owner.to_owned(), place: place_id(&set.spec.zone) };
    let endpoint = |name: &str, ttl: i32, text: &str| json!({ "dnsName": name, "recordType": "TXT", "recordTTL": ttl, "targets": [dkim_testbed::txt(text)] });
    let of = |record: &PublishedRecord| {
        let at = format!("_owner.{}", record.name);
        [endpoint(&record.name, record.ttl, &record.value), endpoint(&at, record.ttl, &mark.to_string())]
    };
    let endpoints: Vec<Value> = set.spec.records.iter().flat_map(of).collect();
    json!({
        "apiVersion": "externaldns.k8s.io/v1alpha1", "kind": "DNSEndpoint", "spec": { "endpoints": endpoints },
        "metadata": { "name": domain, "namespace": namespace,
            "labels": { "app.kubernetes.io/managed-by": "dkim-operator" } },
    })
}

/// What external-dns's definition asks of a DNSEndpoint, and no more.
fn definition() -> Value {
    let text = json!({ "type": "string" });
    let endpoint = json!({ "type": "object", "properties": {
        "dnsName": text, "recordType": text, "setIdentifier": text,
        "recordTTL": { "type": "integer", "format": "int64" },
        "targets": { "type": "array", "items": text },
        "labels": { "type": "object", "additionalProperties": text },
        "providerSpecific": { "type": "array", "items": { "type": "object",
            "properties": { "name": text, "value": text } } },
    } });
    let schema = json!({ "type": "object", "properties": {
        "spec": { "type": "object", "properties": { "endpoints": { "type": "array", "items": endpoint } } },
        "status": { "type": "object", "properties": {
            "observedGeneration": { "type": "integer", "format": "int64" } } },
    } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "dnsendpoints.externaldns.k8s.io", "annotations": {
            "api-approved.kubernetes.io": "unapproved, for tests" } },
        "spec": {
            "group": "externaldns.k8s.io", "scope": "Namespaced",
            "names": { "kind": "DNSEndpoint", "listKind": "DNSEndpointList", "plural": "dnsendpoints",
                       "singular": "dnsendpoint" },
            "versions": [{ "name": "v1alpha1", "served": true, "storage": true,
                "subresources": { "status": {} }, "schema": { "openAPIV3Schema": schema } }],
        },
    })
}
