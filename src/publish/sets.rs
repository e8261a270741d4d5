//! What publishers write of record sets: their status, and the finalizer.

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};

use super::FINALIZER;
use crate::api::{DkimRecordSet, DkimRecordSetStatus};
use crate::controller::Error;

/// The field manager of the status.
const STATUS_MANAGER: &str = "dkim-operator-publish";

/// The record sets.
pub struct Sets {
    api: Api<DkimRecordSet>,
}

impl Sets {
    /// Those of a namespace.
    #[must_use]
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace) }
    }

    /// Writes the status over the version that was read: somebody else's news in it must not be lost. Returns the
    /// version that was written.
    ///
    /// # Errors
    /// [`Error`] where the API server refuses.
    pub async fn save(
        &self,
        set: &DkimRecordSet,
        version: Option<String>,
        status: &DkimRecordSetStatus,
    ) -> Result<Option<String>, Error> {
        let body = serde_json::json!({
            "apiVersion": DkimRecordSet::api_version(&()),
            "kind": DkimRecordSet::kind(&()),
            "metadata": { "name": set.name_any(), "uid": set.metadata.uid, "resourceVersion": version },
            "status": status,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        match self.api.patch_status(&set.name_any(), &params, &Patch::Apply(&body)).await {
            Ok(written) => Ok(written.metadata.resource_version),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(version),
            Err(error) => Err(Error::api("writing the status of a record set")(error)),
        }
    }

    /// Puts our finalizer on, if nobody has written since `version`.
    ///
    /// # Errors
    /// [`Error`] where the API server refuses.
    pub async fn hold(&self, set: &DkimRecordSet, version: Option<String>) -> Result<(), Error> {
        let mut wanted = set.clone();
        wanted.metadata.resource_version = version;
        wanted.finalizers_mut().push(FINALIZER.to_owned());
        self.replace(&wanted).await
    }

    /// Takes our finalizer off, whatever the status has become meanwhile, but not if the spec is a new one.
    ///
    /// # Errors
    /// [`Error`] where the API server refuses, or the spec is a new one.
    pub async fn let_go(&self, set: &DkimRecordSet) -> Result<(), Error> {
        let found = self.api.get_opt(&set.name_any()).await.map_err(Error::api("reading a record set"))?;
        let Some(mut wanted) = found.filter(|found| found.metadata.uid == set.metadata.uid) else {
            return Ok(());
        };
        if wanted.metadata.generation != set.metadata.generation {
            return Err(Error::Conflict("letting go of a record set"));
        }
        wanted.finalizers_mut().retain(|finalizer| finalizer != FINALIZER);
        self.replace(&wanted).await
    }

    async fn replace(&self, wanted: &DkimRecordSet) -> Result<(), Error> {
        let params = PostParams { field_manager: Some(STATUS_MANAGER.into()), ..PostParams::default() };
        match self.api.replace(&wanted.name_any(), &params, wanted).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(Error::api("writing the finalizer of a record set")(error)),
        }
    }
}
