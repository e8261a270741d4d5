//! `kubectl dkim import`: going on with a domain's keys from another cluster.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::json;

use super::args::{ClusterArgs, ImportArgs};
use super::bundle::{Bundle, inspect, keys_in_words};
use super::cluster::Cluster;
use super::error::{CliError, Exit};
use super::find::{Scope, reference};
use super::output;
use super::seal::{self, Identities};
use super::verify;
use crate::api::{
    ANNOTATION_OWNER, DkimDomain, DkimProvider, GuidPolicy, LABEL_DOMAIN, LABEL_MANAGED_BY, MANAGED_BY,
    ProviderRef, SecretRef,
};
use crate::controller::secret::domain_label;
use crate::model::acceptance::guid_may_be_chosen;
use crate::model::guid::{Guid, GuidStyle};
use crate::model::home::Home;
use crate::model::selector::SlotId;
use crate::model::vault::Vault;
use crate::model::words;
use crate::wipe::wipe;

/// Imports a domain.
///
/// # Errors
/// [`CliError`]; nothing was created then, or the error says what was.
pub async fn run(place: &ClusterArgs, args: &ImportArgs) -> Result<Exit, CliError> {
    let ImportArgs { file, identities, provider, secret_namespace, apply } = args;
    let identities = Identities::read(identities)?;
    let (name, sealed) = verify::read(file)?;
    let json = seal::open(&sealed, &name, &identities)?;
    let bundle = Bundle::from_json(&json).map_err(|e| e.of(&name))?;
    drop(json);
    let cluster = Cluster::connect(place).await?;
    let Scope::Namespace(namespace) = cluster.scope().clone() else {
        return Err(CliError::Usage(
            "-A: a domain is imported into one namespace; name it with -n".to_owned(),
        ));
    };
    let named = provider.clone().or_else(|| bundle.spec.provider_ref.as_ref().map(|p| p.name.clone()));
    let found = match cluster.provider(named.as_deref()).await {
        Ok(Some(found)) => Some(found),
        Ok(None) => return Err(no_provider(named.as_deref())),
        Err(CliError::Forbidden { .. }) if secret_namespace.is_some() => None,
        Err(CliError::Forbidden { message, .. }) => return Err(unknown_place(&message)),
        Err(error) => return Err(error),
    };
    let import = Import { bundle, namespace, provider: found };
    let at = import.place(secret_namespace.as_deref())?;
    let mut secret = import.secret(&at);
    let checked = inspect(&secret, &import.bundle.domain).map_err(|e| e.of(&name));
    let result = match checked {
        Ok(stored) => {
            create(&cluster, &import, &stored.vault, &secret, &at, provider.as_deref(), *apply).await
        }
        Err(error) => Err(error),
    };
    wipe(&mut secret);
    result
}

async fn create(
    cluster: &Cluster,
    import: &Import,
    vault: &Vault,
    secret: &Secret,
    at: &SecretRef,
    provider: Option<&str>,
    apply: bool,
) -> Result<Exit, CliError> {
    let object = import.manifest(vault, provider);
    if apply {
        // What the API server would not take is better known before there is a Secret.
        cluster.apply(&object, true).await?;
    }
    if !cluster.create_secret(at, secret).await? {
        return Err(occupied(at));
    }
    if apply {
        cluster.apply(&object, false).await.map_err(|error| {
            CliError::Usage(format!(
                "{error}. The keys are in Secret {}/{} already: run kubectl apply with the DkimDomain, or delete that Secret and import again",
                at.namespace, at.name
            ))
        })?;
    } else {
        output::print(&output::yaml(&manifest_value(&object))?)?;
    }
    output::note(import.words(vault, at, &object, apply, Timestamp::now()).trim_end());
    Ok(Exit::Fine)
}

fn no_provider(named: Option<&str>) -> CliError {
    CliError::Usage(match named {
        Some(named) => format!(
            "this cluster has no DkimProvider {named}; kubectl get dkimproviders lists them, choose one with --provider. Nothing was imported"
        ),
        None => "this cluster has not exactly one DkimProvider that is marked default; choose one with --provider. Nothing was imported".to_owned(),
    })
}

fn unknown_place(message: &str) -> CliError {
    CliError::Usage(format!(
        "the namespace where keys are kept is told by the DkimProvider, which you may not read ({message}); name it with --secret-namespace. Nothing was imported"
    ))
}

fn occupied(at: &SecretRef) -> CliError {
    CliError::Usage(format!(
        "Secret {0}/{1} is there already, and is left as it is: the domain has keys in this cluster. To go on with the imported ones, delete the DkimDomain that has them, wait until the Secret is gone (kubectl delete -n {0} secret {1} where it was left over), and import again. Nothing was imported",
        at.namespace, at.name
    ))
}

/// The DkimDomain as people apply it.
fn manifest_value(object: &DkimDomain) -> serde_json::Value {
    json!({
        "apiVersion": "dkim-operator.io/v1alpha1",
        "kind": "DkimDomain",
        "metadata": { "name": object.name_any(), "namespace": object.namespace() },
        "spec": object.spec,
    })
}

/// What is imported, and where to.
struct Import {
    bundle: Bundle,
    /// The DkimDomain's namespace.
    namespace: String,
    /// None where it may not be read.
    provider: Option<DkimProvider>,
}

impl Import {
    /// Where the operator will look for the key Secret.
    fn place(&self, chosen: Option<&str>) -> Result<SecretRef, CliError> {
        let name = format!("dkim-{}", self.bundle.domain);
        let known = self.provider.as_ref().map(|provider| {
            let namespace = provider.spec.key_namespace.clone();
            (provider.name_any(), namespace.unwrap_or_else(|| self.namespace.clone()))
        });
        match (chosen, known) {
            (Some(chosen), Some((provider, known))) if chosen != known => Err(CliError::Usage(format!(
                "--secret-namespace: DkimProvider {provider} keeps the keys of namespace {} in {known}, and would not find them in {chosen}; leave --secret-namespace out. Nothing was imported",
                self.namespace
            ))),
            (_, Some((_, namespace))) => Ok(SecretRef { namespace, name }),
            (Some(chosen), None) => Ok(SecretRef { namespace: chosen.to_owned(), name }),
            (None, None) => Err(unknown_place("forbidden")),
        }
    }

    /// The key Secret, as the operator takes it for its own once the DkimDomain is there.
    fn secret(&self, at: &SecretRef) -> Secret {
        let Bundle { domain, name, .. } = &self.bundle;
        Secret {
            metadata: ObjectMeta {
                name: Some(at.name.clone()),
                namespace: Some(at.namespace.clone()),
                labels: Some(BTreeMap::from([
                    (LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
                    (LABEL_DOMAIN.to_owned(), domain_label(domain)),
                ])),
                annotations: Some(BTreeMap::from([(
                    ANNOTATION_OWNER.to_owned(),
                    format!("{}/{name}", self.namespace),
                )])),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(self.bundle.data()),
            ..Secret::default()
        }
    }

    /// The DkimDomain to apply. The GUID is written down where it would not come out the same here.
    fn manifest(&self, vault: &Vault, provider: Option<&str>) -> DkimDomain {
        let mut spec = self.bundle.spec.clone();
        if let Some(name) = provider {
            spec.provider_ref = Some(ProviderRef { name: name.to_owned() });
        }
        let may_choose = self.provider.as_ref().is_none_or(|p| guid_may_be_chosen(&p.spec));
        if spec.guid.is_none() && may_choose && self.derived(vault).as_ref() != Some(&vault.home.guid) {
            spec.guid = Some(vault.home.guid.to_string());
        }
        let mut object = DkimDomain::new(&self.bundle.name, spec);
        object.metadata.namespace = Some(self.namespace.clone());
        object
    }

    /// The GUID that this cluster derives; `None` where that cannot be told from here.
    fn derived(&self, vault: &Vault) -> Option<Guid> {
        let readable = self.provider.as_ref()?.spec.guid_policy == GuidPolicy::Readable;
        let slots = &vault.rings.primary.slots;
        let pair = [&slots[SlotId::One].selector, &slots[SlotId::Two].selector];
        readable.then(|| Guid::derive(&vault.domain, &GuidStyle::Readable, pair))
    }

    /// Whether the keys keep their names here; `None` where that cannot be told.
    fn stays(&self, vault: &Vault, object: &DkimDomain) -> Option<bool> {
        let Home { initial_domain, guid, .. } = &vault.home;
        let here = self.provider.as_ref()?.spec.initial_domain.replace("{namespace}", &self.namespace);
        let same_guid = match &object.spec.guid {
            Some(chosen) => chosen == guid.as_str(),
            None => self.derived(vault).as_ref() == Some(guid),
        };
        Some(here == initial_domain.as_str() && same_guid)
    }

    /// What was imported, and what happens next.
    fn words(
        &self,
        vault: &Vault,
        at: &SecretRef,
        object: &DkimDomain,
        applied: bool,
        now: Timestamp,
    ) -> String {
        let Bundle { domain, exported, .. } = &self.bundle;
        let age = words::span(now.duration_since(*exported));
        let mut text = format!(
            "{domain}: its keys are in Secret {}/{}, as they were {age} ago, at {}.\n{}. The next key is number {}.\n",
            at.namespace,
            at.name,
            words::moment(*exported),
            keys_in_words(vault),
            vault.last_serial() + 1,
        );
        text.push_str(&if applied {
            format!("DkimDomain {} is applied; the operator goes on with these keys.\n", reference(object))
        } else {
            format!(
                "Now apply DkimDomain {}, which is printed on standard output; the operator goes on with these keys then.\n",
                reference(object)
            )
        });
        let from = format!("SELECTOR-{}._domainkey.{}", vault.home.guid, vault.home.initial_domain);
        text.push_str(&match self.stays(vault, object) {
            Some(true) => format!("The names of the keys stay as they are ({from}), and so do your records.\n"),
            Some(false) => format!(
                "The names of the keys change: they are published both as {from} and under the names of this cluster's provider until your records lead to those. The condition Moving and kubectl dkim records tell when and how.\n"
            ),
            None => format!(
                "If this cluster's provider publishes under other names than {from}, the condition Moving and kubectl dkim records tell what to change.\n"
            ),
        });
        let undo = if applied { "this DkimDomain" } else { "this Secret" };
        text.push_str(&format!(
            "If keys were rolled in the other cluster since then, delete {undo} again before DNS leads here, and import a new export.\n"
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bundle::tests::bundle;
    use crate::cli::testing::now;
    use crate::controller::secret::{Found, read};
    use crate::model::name::DomainName;
    use jiff::SignedDuration;

    fn provider(spec: serde_json::Value) -> DkimProvider {
        DkimProvider::new("onmail", serde_json::from_value(spec).unwrap())
    }

    fn import(provider: Option<DkimProvider>) -> (Import, Vault) {
        let import = Import { bundle: bundle(), namespace: "shop".into(), provider };
        let place = SecretRef { namespace: "shop".into(), name: "dkim-contoso.com".into() };
        let vault = inspect(&import.secret(&place), &import.bundle.domain).unwrap().vault;
        (import, vault)
    }

    fn same() -> DkimProvider {
        provider(json!({ "initialDomain": "contoso.onmail.example", "tenancy": "Trusted" }))
    }

    #[test]
    fn the_operator_takes_the_secret_for_its_own() {
        let (import, _) = import(Some(same()));
        let at = import.place(None).unwrap();
        assert_eq!((at.namespace.as_str(), at.name.as_str()), ("shop", "dkim-contoso.com"));
        let secret = import.secret(&at);
        assert_eq!(secret.annotations()[ANNOTATION_OWNER], "shop/contoso");
        assert_eq!(secret.labels()[LABEL_DOMAIN], "contoso.com");
        let domain = DomainName::parse("contoso.com").unwrap();
        assert!(matches!(read(&secret, &domain, false), Found::Stored(_)));
    }

    #[test]
    fn keys_go_where_the_provider_keeps_them() {
        let kept = json!({ "initialDomain": "contoso.onmail.example", "keyNamespace": "mail" });
        let (import_kept, _) = import(Some(provider(kept)));
        assert_eq!(import_kept.place(None).unwrap().namespace, "mail");
        assert_eq!(import_kept.place(Some("mail")).unwrap().namespace, "mail");
        let (unknown, _) = import(None);
        assert_eq!(unknown.place(Some("keys")).unwrap().namespace, "keys");
        let at = SecretRef { namespace: "mail".into(), name: "dkim-contoso.com".into() };
        let faults = [
            import_kept.place(Some("shop")).unwrap_err(),
            unknown.place(None).unwrap_err(),
            no_provider(Some("onmail")),
            no_provider(None),
            occupied(&at),
        ];
        assert!(faults.iter().all(|fault| fault.exit() == Exit::Usage));
        insta::assert_snapshot!(faults.map(|fault| fault.to_string()).join("\n"));
    }

    #[test]
    fn the_names_stay_wherever_they_can() {
        let chosen = |provider: Option<DkimProvider>| {
            let (import, vault) = import(provider);
            let object = import.manifest(&vault, None);
            (object.spec.guid.clone(), import.stays(&vault, &object))
        };
        let initial = "contoso.onmail.example";
        let salted =
            |tenancy| json!({ "initialDomain": initial, "guidPolicy": "Salted", "tenancy": tenancy });
        assert_eq!(chosen(Some(same())), (None, Some(true)));
        let guid = Some("contoso-com".to_owned());
        assert_eq!(chosen(Some(provider(salted("Trusted")))), (guid.clone(), Some(true)));
        // There the GUID alone tells tenants apart, and may not be chosen.
        assert_eq!(chosen(Some(provider(salted("Isolated")))), (None, Some(false)));
        assert_eq!(chosen(Some(provider(json!({ "initialDomain": "other.example" })))), (None, Some(false)));
        assert_eq!(chosen(None), (guid, None));
    }

    #[test]
    fn in_words() {
        let at = SecretRef { namespace: "shop".into(), name: "dkim-contoso.com".into() };
        let later = now() + SignedDuration::from_hours(3);
        let other = provider(json!({ "initialDomain": "{namespace}.other.example" }));
        let mut texts = Vec::new();
        for (provider, applied) in [(Some(same()), true), (Some(other), false), (None, false)] {
            let (import, vault) = import(provider);
            let object = import.manifest(&vault, Some("onmail"));
            texts.push(import.words(&vault, &at, &object, applied, later));
            if texts.len() == 1 {
                texts.push(output::yaml(&manifest_value(&object)).unwrap());
            }
            let key = vault.rings.primary.slots[SlotId::One].phase.key().unwrap().fingerprint.to_string();
            texts = texts.into_iter().map(|text| text.replace(&key, "FINGERPRINT")).collect();
        }
        insta::assert_snapshot!(texts.join("\n"));
    }
}
