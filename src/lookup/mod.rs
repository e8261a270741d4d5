use crate::api::Verification;
use crate::model::sighting::*;
use std::{hash::Hash, net::SocketAddr, sync::Arc, time::Duration};
pub struct Pace {
    pub every: Duration,
}
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LookupConfig {
    r: Vec<SocketAddr>,
}
impl LookupConfig {
    pub fn of(_: &Verification) -> Self {
        todo!()
    }
}
pub struct Looker;
impl Looker {
    pub fn new(_: LookupConfig) -> Self {
        Looker
    }
}
#[derive(Default)]
pub struct LookoutConfig;
pub struct Lookout<K>(std::marker::PhantomData<fn() -> K>);
impl<K: Clone + Eq + Hash + Send + 'static> Lookout<K> {
    pub fn new(_: LookoutConfig) -> (Self, futures::channel::mpsc::UnboundedReceiver<K>) {
        todo!()
    }
    pub fn watch(&self, _: K, _: Question, _: Pace, _: Arc<Looker>) {}
    pub fn latest(&self, _: &K) -> Option<Arc<Observation>> {
        None
    }
    pub fn wake(&self, _: &K) {}
    pub fn forget(&self, _: &K) {}
}
