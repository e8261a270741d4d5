//! `kubectl dkim export`: a domain's keys, encrypted, for another cluster.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;

use super::args::{ClusterArgs, ExportArgs};
use super::bundle::{Bundle, inspect, keys_in_words};
use super::change::title;
use super::cluster::Cluster;
use super::error::{CliError, Exit};
use super::find::reference;
use super::output;
use super::seal;
use crate::api::{DkimDomain, SecretRef};
use crate::model::vault::Vault;
use crate::wipe::wipe;

/// Exports a domain.
///
/// # Errors
/// [`CliError`]; no file is left behind then.
pub async fn run(place: &ClusterArgs, args: &ExportArgs) -> Result<Exit, CliError> {
    let ExportArgs { domain, recipients, output: file } = args;
    let recipients = seal::recipients(recipients)?;
    let cluster = Cluster::connect(place).await?;
    let object = cluster.find(&domain.domain).await?;
    let at = secret_of(&object)?;
    let mut secret = cluster.secret(&at).await?;
    let taken = take(&object, &secret, &at);
    wipe(&mut secret);
    let (bundle, vault) = taken?;
    let json = bundle.to_json().map_err(|e| e.of(&place_of(&at)))?;
    let sealed = seal::seal(&json, &recipients)?;
    match file {
        Some(file) => write(file, &sealed)?,
        None => output::print(&String::from_utf8_lossy(&sealed))?,
    }
    let name = file.as_ref().map(|file| file.display().to_string());
    output::note(words(&object, &vault, recipients.len(), name.as_deref()).trim_end());
    Ok(Exit::Fine)
}

fn place_of(at: &SecretRef) -> String {
    format!("Secret {}/{}", at.namespace, at.name)
}

fn take(
    object: &DkimDomain,
    secret: &k8s_openapi::api::core::v1::Secret,
    at: &SecretRef,
) -> Result<(Bundle, Vault), CliError> {
    let bundle = Bundle::of(object, secret, Timestamp::now()).map_err(|e| e.of(&place_of(at)))?;
    let stored = inspect(secret, &bundle.domain).map_err(|e| e.of(&place_of(at)))?;
    Ok((bundle, stored.vault))
}

fn secret_of(object: &DkimDomain) -> Result<SecretRef, CliError> {
    object.status.as_ref().and_then(|status| status.secret_ref.clone()).ok_or_else(|| {
        CliError::NotYet(format!(
            "{} ({}) has no key Secret yet: the operator has not made keys for it. kubectl dkim status tells why",
            object.spec.domain,
            reference(object)
        ))
    })
}

/// Writes a new file that only its owner may read; one that cannot be written whole is taken away again.
///
/// # Errors
/// [`CliError::Usage`].
pub fn write(file: &Path, content: &[u8]) -> Result<(), CliError> {
    let name = file.display();
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut out = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::Usage(format!(
            "--output: {name} is there already and is left as it is; choose another name, or take it away"
        )),
        _ => CliError::Usage(format!("--output: {name} cannot be written: {error}")),
    })?;
    out.write_all(content).and_then(|()| out.sync_all()).map_err(|error| {
        // What can be said is the fault of writing, not one of cleaning up behind it.
        let _ = std::fs::remove_file(file);
        CliError::Usage(format!("--output: {name} cannot be written: {error}"))
    })
}

/// What was exported, and how the domain moves with it.
#[must_use]
pub fn words(object: &DkimDomain, vault: &Vault, recipients: usize, file: Option<&str>) -> String {
    let to = file.map_or_else(String::new, |file| format!(", to {file}"));
    let plural = if recipients == 1 { "" } else { "s" };
    let mut text = format!(
        "{}: exported, encrypted for {recipients} recipient{plural}{to}.\n{}.\n",
        title(object),
        keys_in_words(vault)
    );
    if !object.spec.import_keys.is_empty() {
        text.push_str("spec.importKeys is left out: the keys that were taken in are among these.\n");
    }
    if !object.spec.rotation.paused {
        text.push_str(
            "A rotation here would make this export out of date: set spec.rotation.paused to true and export again, or import soon.\n",
        );
    }
    text.push_str(
        "In the other cluster: kubectl dkim import FILE --identity KEYFILE --apply. Then let the provider's zone be served from there, and the signers read their keys there. Delete the DkimDomain here last: with deletionPolicy Drain, the default, its keys stay published here until mail under way has arrived.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{bare, contoso, key_secret, now};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn in_words() {
        let mut paused = contoso();
        paused.spec.rotation.paused = true;
        let key = serde_json::json!([{ "selector": "selector1", "secretKeyRef": { "name": "old" } }]);
        paused.spec.import_keys = serde_json::from_value(key).unwrap();
        let bundle = Bundle::of(&contoso(), &key_secret(), now()).unwrap();
        let vault = inspect(&key_secret(), &bundle.domain).unwrap().vault;
        let fingerprint = vault.rings.primary.slots.0[0].phase.key().unwrap().fingerprint.to_string();
        let texts = [words(&contoso(), &vault, 1, Some("contoso.age")), words(&paused, &vault, 2, None)];
        let none = secret_of(&bare("mail", "new", "new.example")).unwrap_err();
        let text = format!("{}\n{none}", texts.join("\n"));
        insta::assert_snapshot!(text.replace(&fingerprint, "FINGERPRINT"));
    }

    #[test]
    fn only_a_new_file_is_written_and_only_its_owner_reads_it() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("contoso.age");
        write(&file, b"sealed").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"sealed");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write(&file, b"other").unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), b"sealed");
        assert!(
            write(&scratch.path().join("no/such"), b"")
                .unwrap_err()
                .to_string()
                .contains("cannot be written")
        );
    }
}
