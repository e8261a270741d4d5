//! The way to the cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::Value;

use super::args::ClusterArgs;
use super::change::FIELD_MANAGER;
use super::error::{CliError, chain};
use super::find::{Scope, find, reference};
use crate::api::{DkimDomain, DkimProvider, SecretRef};
use crate::model::name::DomainName;
use crate::wipe::wipe;

/// How long to wait for an answer before giving up.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// DkimDomains per page, as kubectl does.
const PAGE: u32 = 500;

/// The DkimDomains of a cluster, within a scope.
pub struct Cluster {
    client: Client,
    scope: Scope,
}

impl Cluster {
    /// Reads the kubeconfig; nothing is asked yet.
    ///
    /// # Errors
    /// [`CliError::Connect`].
    pub async fn connect(args: &ClusterArgs) -> Result<Self, CliError> {
        let ClusterArgs { namespace, all_namespaces, kubeconfig, context, cluster, user, as_user, as_groups } =
            args;
        let chosen = context.is_some() || cluster.is_some() || user.is_some();
        let options =
            KubeConfigOptions { context: context.clone(), cluster: cluster.clone(), user: user.clone() };
        let connect = |error: &dyn std::error::Error| CliError::Connect(chain(error));
        let mut config = match kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(|e| connect(&e))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| connect(&e))?
            }
            None if chosen => Config::from_kubeconfig(&options).await.map_err(|e| connect(&e))?,
            None => Config::infer().await.map_err(|e| connect(&e))?,
        };
        config.read_timeout.get_or_insert(READ_TIMEOUT);
        if as_user.is_some() {
            config.auth_info.impersonate.clone_from(as_user);
            config.auth_info.impersonate_groups = Some(as_groups.clone());
        }
        let scope = match (all_namespaces, namespace) {
            (true, _) => Scope::All,
            (false, Some(namespace)) => Scope::Namespace(namespace.clone()),
            (false, None) => Scope::Namespace(config.default_namespace.clone()),
        };
        let client = Client::try_from(config).map_err(|e| connect(&e))?;
        Ok(Self { client, scope })
    }

    /// Where is looked.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    fn api(&self) -> Api<DkimDomain> {
        match &self.scope {
            Scope::Namespace(namespace) => Api::namespaced(self.client.clone(), namespace),
            Scope::All => Api::all(self.client.clone()),
        }
    }

    fn api_of(&self, object: &DkimDomain) -> Api<DkimDomain> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    /// All DkimDomains of the scope.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn all(&self) -> Result<Vec<DkimDomain>, CliError> {
        let (api, mut objects) = (self.api(), Vec::new());
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api.list(&params).await.map_err(|e| self.list_error(&e))?;
            objects.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(objects),
            }
        }
    }

    fn list_error(&self, error: &kube::Error) -> CliError {
        CliError::from_kube(format!("list DkimDomains in {}", self.scope), error)
    }

    /// The one that is meant by a domain or a name.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn find(&self, asked: &str) -> Result<DkimDomain, CliError> {
        if let Some(object) = self.find_at_once(asked).await? {
            return Ok(object);
        }
        let all = self.all().await?;
        Ok(find(&all, asked, &self.scope)?.clone())
    }

    /// Lets the API server search one namespace, which it can where the domain was written in A-label form.
    async fn find_at_once(&self, asked: &str) -> Result<Option<DkimDomain>, CliError> {
        let (Scope::Namespace(_), Ok(domain)) = (&self.scope, DomainName::parse(asked)) else {
            return Ok(None);
        };
        let params = ListParams::default().fields(&format!("spec.domain={domain}"));
        match self.api().list(&params).await {
            Ok(found) if found.items.len() == 1 => Ok(found.items.into_iter().next()),
            Ok(_) => Ok(None),
            // An API server that is too old for selectable fields.
            Err(kube::Error::Api(status)) if status.code == 400 => Ok(None),
            Err(error) => Err(self.list_error(&error)),
        }
    }

    /// The same one as it is now.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn again(&self, object: &DkimDomain) -> Result<DkimDomain, CliError> {
        let found = self.api_of(object).get(&object.name_any()).await;
        found.map_err(|e| CliError::from_kube(format!("read {}", reference(object)), &e))
    }

    /// Changes it; returns it as it is then.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn change(&self, object: &DkimDomain, patch: &Value) -> Result<DkimDomain, CliError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let changed = self.api_of(object).patch(&object.name_any(), &params, &Patch::Merge(patch)).await;
        changed.map_err(|e| CliError::from_kube(format!("change {}", reference(object)), &e))
    }

    /// A key Secret.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn secret(&self, place: &SecretRef) -> Result<Secret, CliError> {
        let SecretRef { namespace, name } = place;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get(name).await;
        found.map_err(|e| CliError::from_kube(format!("read Secret {namespace}/{name}"), &e))
    }

    /// Creates a key Secret; whether there was none of that name.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn create_secret(&self, place: &SecretRef, secret: &Secret) -> Result<bool, CliError> {
        let SecretRef { namespace, name } = place;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&params, secret).await {
            Ok(mut made) => {
                wipe(&mut made);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(CliError::from_kube(format!("create Secret {namespace}/{name}"), &error)),
        }
    }

    /// A DkimProvider, or the one marked default; `None` where there is none, or several are marked.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn provider(&self, name: Option<&str>) -> Result<Option<DkimProvider>, CliError> {
        let api: Api<DkimProvider> = Api::all(self.client.clone());
        let fault = |error: &kube::Error| CliError::from_kube("read DkimProviders", error);
        let Some(name) = name else {
            let all = api.list(&ListParams::default()).await.map_err(|e| fault(&e))?;
            let mut defaults = all.items.into_iter().filter(|provider| provider.spec.default);
            let first = defaults.next();
            return Ok(first.filter(|_| defaults.next().is_none()));
        };
        api.get_opt(name).await.map_err(|e| fault(&e))
    }

    /// Applies a DkimDomain, or only asks whether it would be taken.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn apply(&self, object: &DkimDomain, dry_run: bool) -> Result<(), CliError> {
        let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER) };
        let applied = self.api_of(object).patch(&object.name_any(), &params, &Patch::Apply(object)).await;
        applied.map(|_| ()).map_err(|e| CliError::from_kube(format!("apply {}", reference(object)), &e))
    }
}
