//! `kubectl dkim rotate --wait`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::error::CliError;
use super::output::note;
use super::table::plain;
use crate::api::{DkimDomain, HumanDuration};

/// Time between looks.
const EVERY: Duration = Duration::from_secs(1);

fn switches(object: &DkimDomain) -> i64 {
    object.status.as_ref().and_then(|s| s.rotation.as_ref()).map_or(0, |r| r.count)
}

fn waits_for(object: &DkimDomain) -> Option<&str> {
    object.status.as_ref()?.rotation.as_ref()?.waiting_for.as_deref()
}

/// Waits until keys have been switched once more than in `asked`, or `done` says that none needs to be; says on the way
/// what it hangs on.
///
/// # Errors
/// [`CliError::TimedOut`] with what it hangs on; any other fault but a passing loss of the cluster.
pub async fn for_switch(
    cluster: &Cluster,
    asked: &DkimDomain,
    timeout: HumanDuration,
    done: impl Fn(&DkimDomain) -> bool,
) -> Result<DkimDomain, CliError> {
    let end = Instant::now() + Duration::try_from(timeout.0).unwrap_or_default();
    let mut told: Option<String> = None;
    let mut why = "the operator has not acted on it; ask whether it runs".to_owned();
    while Instant::now() < end {
        match cluster.again(asked).await {
            Ok(object) if switches(&object) > switches(asked) || done(&object) => return Ok(object),
            Ok(object) => {
                if let Some(reason) = waits_for(&object) {
                    why = plain(reason);
                    if told.as_deref() != Some(reason) {
                        note(&format!("It waits: {why}."));
                        told = Some(reason.to_owned());
                    }
                }
            }
            Err(CliError::Connect(fault)) => why = format!("the cluster cannot be reached ({fault})"),
            Err(error) => return Err(error),
        }
        sleep(EVERY.min(end.saturating_duration_since(Instant::now()))).await;
    }
    Err(CliError::TimedOut { what: format!("the rotation of {}", asked.spec.domain), timeout, why })
}

/// Who signs after a switch.
#[must_use]
pub fn switched(object: &DkimDomain) -> String {
    let signing = object.status.as_ref().and_then(|s| s.signing.as_ref());
    match signing {
        Some(signing) => {
            format!("Rotated: {} signs, as {}.\n", plain(&signing.selector), plain(&signing.domain))
        }
        None => "Rotated.\n".to_owned(),
    }
}
