//! Ways into the cluster: clients, tokens, kubeconfigs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::ControlPlane;
use crate::scratch;
use crate::{Error, Result};

/// How to reach the API server as its administrator.
#[derive(Debug)]
pub(super) struct Access {
    config: Config,
    /// The kubeconfig as it was found, where it was not made here.
    found: Option<String>,
}

impl Access {
    pub(super) fn new(api: SocketAddr, authority: &str, token: &str) -> Result<Self> {
        let url =
            format!("https://{api}").parse().map_err(|error| Error::Kubeconfig(format!("{api}: {error}")))?;
        let mut config = Config::new(url);
        config.root_cert = Some(vec![from_pem(authority)?]);
        config.auth_info.token = Some(token.to_owned().into());
        Ok(Self { config: brisk(config), found: None })
    }

    pub(super) async fn read(path: &Path) -> Result<Self> {
        let fail = |reason: String| Error::Kubeconfig(format!("{}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let kubeconfig = Kubeconfig::from_yaml(&text).map_err(|error| fail(error.to_string()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Ok(Self { config: brisk(config.map_err(|error| fail(error.to_string()))?), found: Some(text) })
    }

    pub(super) fn admin_client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config.clone())?)
    }

    pub(super) fn write_admin(&self, path: &Path) -> Result<()> {
        match (&self.found, &self.config.auth_info.token) {
            (Some(text), _) => scratch::write(path, text),
            (None, Some(token)) => self.write(path, token, None),
            (None, None) => Err(Error::Kubeconfig("the administrator has no token".to_owned())),
        }
    }

    /// Writes a kubeconfig for whoever has `token`. JSON is YAML, too. `relay` is where the API server is reached
    /// instead of at its own address.
    fn write(&self, path: &Path, token: &SecretString, relay: Option<SocketAddr>) -> Result<()> {
        let authorities = self.config.root_cert.iter().flatten().map(|der| to_pem(der)).collect::<String>();
        let mut cluster = json!({
            "server": self.config.cluster_url.to_string().trim_end_matches('/'),
            "certificate-authority-data": BASE64.encode(authorities.as_bytes()),
        });
        if let Some(relay) = relay {
            cluster["server"] = json!(format!("https://{relay}"));
            cluster["tls-server-name"] = json!("kubernetes");
        }
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "testbed",
            "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "testbed" } }],
            "clusters": [{ "name": "testbed", "cluster": cluster }],
            "users": [{ "name": "testbed", "user": { "token": token.expose_secret() } }],
        });
        scratch::write(path, format!("{text:#}\n"))
    }

    fn for_token(&self, token: &str) -> Config {
        let mut config = Config::new(self.config.cluster_url.clone());
        config.root_cert.clone_from(&self.config.root_cert);
        config.auth_info.token = Some(token.to_owned().into());
        brisk(config)
    }
}

impl ControlPlane {
    /// A fresh client of the administrator.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn admin(&self) -> Result<Client> {
        self.access.admin_client()
    }

    /// The administrator's configuration, to make clients from.
    #[must_use]
    pub fn admin_config(&self) -> Config {
        self.access.config.clone()
    }

    /// A client that acts as another user, for whom the administrator vouches (impersonation).
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = self.admin_config();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect())
            .filter(|groups: &Vec<_>| !groups.is_empty());
        Ok(Client::try_from(config)?)
    }

    /// A client for whoever has `token`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn client_for_token(&self, token: &str) -> Result<Client> {
        Ok(Client::try_from(self.access.for_token(token))?)
    }

    /// A token of a ServiceAccount, which is made where it is not there, through the TokenRequest API.
    /// Kubernetes gives none for less than ten minutes.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        lasting: Duration,
    ) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin()?, namespace);
        if accounts.get_opt(name).await?.is_none() {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let account = ServiceAccount { metadata, ..ServiceAccount::default() };
            match accounts.create(&PostParams::default(), &account).await {
                // Another test, or the controller manager, was faster.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                outcome => drop(outcome?),
            }
        }
        let seconds = i64::try_from(lasting.as_secs()).unwrap_or(i64::MAX);
        let spec = TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        let token = answer.status.and_then(|status| status.token);
        token.ok_or_else(|| Error::Kubeconfig(format!("no token came for ServiceAccount {namespace}/{name}")))
    }

    /// Writes a kubeconfig for whoever has `token`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn kubeconfig_for_token(&self, token: &str, path: impl AsRef<Path>) -> Result<()> {
        self.access.write(path.as_ref(), &token.to_owned().into(), None)
    }

    /// The same, with the API server reached through a relay (see [`crate::Relay`]).
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn kubeconfig_through(&self, relay: SocketAddr, token: &str, path: impl AsRef<Path>) -> Result<()> {
        self.access.write(path.as_ref(), &token.to_owned().into(), Some(relay))
    }

    /// Where the API server listens.
    ///
    /// # Errors
    /// Where it is not reached by address and port.
    pub fn api_address(&self) -> Result<SocketAddr> {
        let url = &self.access.config.cluster_url;
        let address = url.authority().and_then(|authority| authority.as_str().parse().ok());
        address.ok_or_else(|| Error::Kubeconfig(format!("{url} has no address and port")))
    }

    /// Writes the administrator's kubeconfig to a place of the caller's.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_kubeconfig(&self, path: impl AsRef<Path>) -> Result<()> {
        self.access.write_admin(path.as_ref())
    }

    /// Makes a namespace that nobody else has, and returns its name.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn namespace(&self) -> Result<String> {
        let metadata = ObjectMeta { generate_name: Some("test-".to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let namespaces: Api<Namespace> = Api::all(self.admin()?);
        Ok(namespaces.create(&PostParams::default(), &namespace).await?.name_any())
    }
}

/// Loopback connections are there at once or not at all.
fn brisk(mut config: Config) -> Config {
    config.connect_timeout = Some(Duration::from_secs(5));
    config
}

fn from_pem(pem: &str) -> Result<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(body.as_bytes()).map_err(|error| Error::Kubeconfig(format!("certificate: {error}")))
}

fn to_pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|at| &text[at..(at + 64).min(text.len())]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
