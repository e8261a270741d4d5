//! Keys that the user brings: read from the Secrets that `spec.importKeys` names.

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use zeroize::Zeroize;

use super::Context;
use super::error::Error;
use super::secret::Keys;
use crate::api::{KeyAlgorithm, KeyImport, Reason};
use crate::model::acceptance::{Order, Refusal};
use crate::model::key::{KeyKind, PrivateKey};
use crate::model::lanes::LaneId;
use crate::model::selector::PerSlot;
use crate::model::vault::Vault;
use crate::wipe::wipe;

/// What came of reading them.
pub struct Imports {
    /// The keys.
    pub keys: Keys,
    /// Why one of them cannot be taken in, though signing goes on without it.
    pub fault: Option<String>,
}

impl Imports {
    /// Lets the policies know of the keys.
    pub fn tell(&self, order: &mut Order) {
        for (lane, keys) in self.keys.iter() {
            let Some(lane) = order.lanes.get_mut(lane) else { continue };
            lane.policy.imports = PerSlot::from_fn(|slot| {
                keys[slot].as_ref().and_then(|key| key.public().ok()?.fingerprint().ok())
            });
        }
    }
}

/// Reads the keys that have not had their turn.
///
/// # Errors
/// The outer [`Error`] where the API server could not be asked; the inner [`Refusal`] where a key cannot be taken in and
/// no key was made yet: to begin with another one is not what was asked for.
pub async fn read(
    ctx: &Context,
    order: &Order,
    tenant: &str,
    vault: &Vault,
) -> Result<Result<Imports, Refusal>, Error> {
    let mut found = Imports { keys: order.lanes.map(|_, _| PerSlot::from_fn(|_| None)), fault: None };
    for (number, import) in order.imports.iter().enumerate() {
        for lane in LaneId::ALL {
            let Some(wanted) = order.lanes.get(lane) else { continue };
            let Some(slot) = wanted.selectors.iter().find(|(_, s)| s.as_str() == import.selector) else {
                continue;
            };
            let fresh = vault.rings.get(lane).is_none_or(|ring| ring.last_serial == 0);
            match key(ctx, order, number, tenant, wanted.policy.kind).await? {
                Ok(key) => {
                    if let Some(keys) = found.keys.get_mut(lane) {
                        keys[slot.0] = Some(key);
                    }
                }
                Err(message) if fresh => {
                    return Ok(Err(Refusal { reason: Reason::ImportFailed, message }));
                }
                // It may have been deleted once it was taken in.
                Err(_) if vault.rings.get(lane).is_some_and(|ring| !ring.log.imported.is_empty()) => {}
                Err(message) => found.fault = Some(message),
            }
        }
    }
    Ok(Ok(found))
}

async fn key(
    ctx: &Context,
    order: &Order,
    number: usize,
    tenant: &str,
    wanted: KeyKind,
) -> Result<Result<PrivateKey, String>, Error> {
    let Some(KeyImport { secret_key_ref: reference, .. }) = order.imports.get(number) else {
        return Ok(Err(String::new()));
    };
    let field = format!("spec.importKeys[{number}].secretKeyRef");
    let place = format!("Secret {tenant}/{}", reference.name);
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), tenant);
    let secret = match api.get_opt(&reference.name).await.map_err(Error::api("reading a key to import")) {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return Ok(Err(format!(
                "{field}.name: there is no {place}; create it with the private key in it"
            )));
        }
        Err(error) if error.is_forbidden() => {
            return Ok(Err(format!(
                "{field}.name: the operator may not read {place}; ask the mail provider to add namespace {tenant} to controller.secretNamespaces of the chart"
            )));
        }
        Err(error) => return Err(error),
    };
    let mut secret = secret;
    let result = parse(&secret, &field, &place, &reference.key, wanted, order.allow_rsa1024);
    wipe(&mut secret);
    Ok(result)
}

fn parse(
    secret: &Secret,
    field: &str,
    place: &str,
    name: &str,
    wanted: KeyKind,
    allow_rsa1024: bool,
) -> Result<PrivateKey, String> {
    let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(name)) else {
        let there: Vec<&str> =
            secret.data.iter().flat_map(|data| data.keys()).map(String::as_str).take(8).collect();
        return Err(format!(
            "{field}.key: {place} has no {name} in its data ({}); name the one that holds the private key",
            there.join(", ")
        ));
    };
    let mut text = String::from_utf8_lossy(&bytes.0).into_owned();
    let key = PrivateKey::from_foreign_pem(&text);
    text.zeroize();
    let unreadable = || {
        format!(
            "{field}.key: {name} of {place} is no unencrypted private key as PEM that we sign with; it must begin with BEGIN PRIVATE KEY or BEGIN RSA PRIVATE KEY"
        )
    };
    let key = key.map_err(|_| unreadable())?;
    let kind = key.kind().map_err(|_| unreadable())?.ok_or_else(|| {
        format!("{field}.key: {name} of {place} is an RSA key of another size than 1024, 2048, 3072 or 4096 bits; begin with a new key instead")
    })?;
    if kind == KeyKind::Rsa1024 && !allow_rsa1024 {
        return Err(format!(
            "{field}.key: {name} of {place} is an RSA key of 1024 bits, which the DkimProvider does not allow; begin with a new key instead, or ask the provider for keyPolicy.allowRsa1024"
        ));
    }
    if kind.algorithm() != wanted.algorithm() {
        let algorithm = |kind: KeyKind| match kind {
            KeyKind::Ed25519 => KeyAlgorithm::Ed25519,
            _ => KeyAlgorithm::Rsa,
        };
        return Err(format!(
            "{field}.key: {name} of {place} is an {:?} key, and this selector's signature is {:?}; name a key of that kind",
            algorithm(kind),
            algorithm(wanted)
        ));
    }
    Ok(key)
}
