//! DkimProviders: checked on their own, their domains counted.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::Context;
use super::error::Error;
use crate::api::{
    ConditionType, DkimProvider, DkimProviderSpec, DkimProviderStatus, DomainCounts, FIELD_MANAGER,
    PublishMethod, Reason, RecordCounts,
};
use crate::model::acceptance;
use crate::model::publishing;
use crate::model::status::Verdict;
use crate::model::words;

/// How often domains are counted.
const COUNT_AGAIN: Duration = Duration::from_secs(30);

/// Reconciles one DkimProvider.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn reconcile(provider: Arc<DkimProvider>, ctx: Arc<Context>) -> Result<Action, Error> {
    let before = provider.status.clone();
    let name = provider.name_any();
    let verdict = acceptance::check_provider(&provider.spec);
    let (status, reason, message) = match &verdict {
        Ok(()) => ("True", Reason::Accepted, "domains are served".to_owned()),
        Err(refusal) => ("False", refusal.reason, refusal.message.clone()),
    };
    let condition = |type_: ConditionType, status: &str| {
        let old = before.iter().flat_map(|s| &s.conditions);
        let kept = old.into_iter().find(|c| c.type_ == type_.as_str() && c.status == status);
        Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.clone(),
            observed_generation: provider.metadata.generation,
            last_transition_time: kept
                .map_or_else(|| words::whole(ctx.clock.now()), |c| c.last_transition_time.clone()),
        }
    };
    let mut conditions =
        vec![condition(ConditionType::Ready, status), condition(ConditionType::Accepted, status)];
    let publishing = publishing_of(&ctx, &provider.spec, &name);
    if let Some((_, published)) = &publishing {
        conditions.push(published.condition(
            before.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default(),
            provider.metadata.generation,
            ctx.clock.now(),
        ));
    }
    if verdict.is_err() {
        conditions.push(condition(ConditionType::Stalled, "True"));
    }
    let spec = &provider.spec;
    let apex = spec.publish.zone.clone().unwrap_or_else(|| format!("_domainkey.{}", spec.initial_domain));
    let wanted = DkimProviderStatus {
        observed_generation: provider.metadata.generation,
        conditions,
        zone: verdict.is_ok().then_some(apex),
        domains: count(&ctx, &provider, &name),
        records: publishing.map(|(counts, _)| counts),
    };
    if before.as_ref() != Some(&wanted) {
        save(&ctx, &provider, &wanted).await?;
    }
    Ok(Action::requeue(ctx.spread(COUNT_AGAIN)))
}

fn count(ctx: &Context, provider: &DkimProvider, name: &str) -> DomainCounts {
    let mut counts = DomainCounts::default();
    for guard in ctx.domains.state() {
        let Ok(domain) = &guard.0 else { continue };
        let named = domain.spec.provider_ref.as_ref().map(|r| r.name.as_str());
        if named != Some(name) && !(named.is_none() && provider.spec.default) {
            continue;
        }
        let holds = |type_: ConditionType| {
            let all = domain.status.iter().flat_map(|s| &s.conditions);
            all.into_iter().any(|c| c.type_ == type_.as_str() && c.status == "True")
        };
        counts.total += 1;
        counts.ready += i64::from(holds(ConditionType::Ready));
        counts.enabled += i64::from(holds(ConditionType::Enabled));
    }
    counts
}

/// How it stands with the records that publishers bring into DNS; `None` for the embedded server.
fn publishing_of(ctx: &Context, spec: &DkimProviderSpec, name: &str) -> Option<(RecordCounts, Verdict)> {
    if spec.publish.method == PublishMethod::Embedded {
        return None;
    }
    let sets = ctx.record_sets_seen.state();
    let ours = sets.iter().filter_map(|guard| guard.0.as_ref().ok()).filter(|set| set.spec.provider == name);
    let (counts, gravest) = publishing::summary(ours.filter_map(|set| set.status.as_ref()));
    let (holds, reason, message) = match gravest {
        Some((reason, message)) => (false, reason, message),
        None if counts.pending > 0 => (
            false,
            Reason::RecordsPending,
            "records are on their way; their DkimRecordSets say more".to_owned(),
        ),
        None => (true, Reason::RecordsSeen, "all records are published".to_owned()),
    };
    Some((counts, Verdict { type_: ConditionType::RecordsPublished, holds, reason, message }))
}

async fn save(ctx: &Context, provider: &DkimProvider, status: &DkimProviderStatus) -> Result<(), Error> {
    let api: Api<DkimProvider> = Api::all(ctx.client.clone());
    let body = serde_json::json!({
        "apiVersion": DkimProvider::api_version(&()),
        "kind": DkimProvider::kind(&()),
        "metadata": { "name": provider.name_any(), "uid": provider.metadata.uid },
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&provider.name_any(), &params, &Patch::Apply(&body)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::api("writing the provider's status")(error)),
    }
}
