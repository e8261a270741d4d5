//! One control plane for many tests.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::{ControlPlane, KUBECONFIG_VARIABLE, Options};
use crate::Result;

/// It is never dropped: its processes and its directory go when this process ends, however that happens.
static SHARED: OnceCell<Arc<ControlPlane>> = OnceCell::const_new();

impl ControlPlane {
    /// The control plane that all tests of this process share, with kube-controller-manager; the first one that
    /// asks starts it.
    ///
    /// Where [`KUBECONFIG_VARIABLE`] is set, it is the one that this leads to: so that many test programs, or a
    /// runner with a process for each test, can share one, too. The program `testbed-up` sets it.
    ///
    /// Tests should work in a [`ControlPlane::namespace`] of their own. Those that take servers away need a
    /// control plane of their own.
    ///
    /// # Errors
    /// Where it cannot be started or reached. The next test tries again.
    pub async fn shared() -> Result<Arc<Self>> {
        let started = SHARED.get_or_try_init(|| async {
            let plane = match std::env::var_os(KUBECONFIG_VARIABLE).filter(|path| !path.is_empty()) {
                Some(path) => Self::attach(path).await?,
                None => Self::start(Options::new().with_controller_manager()).await?,
            };
            Ok(Arc::new(plane))
        });
        started.await.cloned()
    }
}
