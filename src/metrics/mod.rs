//! Metrics of all roles, in the OpenMetrics text format: one registry for a process, served beside the probes.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dkim_operator");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the operator", build);
        Self(Arc::new(Mutex::new(registry)))
    }
}

impl Metrics {
    /// Lets a role register its metrics; their names get the prefix `dkim_operator_`.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.0.lock());
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// [`fmt::Error`] from a collector.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.lock())?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_prefix_and_the_text_an_end() {
        let metrics = Metrics::default();
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        metrics.register(|registry| registry.register("things", "Things", counter.clone()));
        counter.inc();
        let text = metrics.render().unwrap();
        assert!(text.contains("dkim_operator_things_total 1\n"), "{text}");
        assert!(text.contains("dkim_operator_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
