//! Where time comes from: this machine's clock, held against what each answer of the API server says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::ClientBuilder;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use tower::util::MapFutureLayer;

use crate::model::present::{Present, SKEW};

/// From which difference on a clock is said to be wrong.
const WRONG: SignedDuration = SignedDuration::from_secs(5);
/// Pause before clocks are compared again that differ too much.
const AGAIN: Duration = Duration::from_secs(10);

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The present moment, in whole seconds or finer.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine, outvoted where it leaps: see [`Present`]. Clones are one clock.
#[derive(Debug, Clone)]
pub struct WitnessedClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    present: Present,
    /// This machine's clock was said to be wrong.
    wrong: bool,
}

impl WitnessedClock {
    /// A client of the API server whose answers the clock listens to, and that clock.
    ///
    /// # Errors
    /// Where the configuration cannot be used.
    pub fn listening(config: kube::Config) -> kube::Result<(Client, Self)> {
        let inner = Inner { begun: Instant::now(), known: Mutex::default() };
        let clock = Self(Arc::new(inner));
        let listens = clock.clone();
        let layer = MapFutureLayer::new(move |answer| listens.clone().listen(answer));
        Ok((ClientBuilder::try_from(config)?.with_layer(&layer).build(), clock))
    }

    async fn listen<B, E>(
        self,
        answer: impl Future<Output = Result<http::Response<B>, E>>,
    ) -> Result<http::Response<B>, E> {
        let sent = self.0.begun.elapsed();
        let answer = answer.await;
        if let Ok(said) = answer.as_ref().map(|answer| date(answer.headers()))
            && let Some(said) = said
        {
            let mut known = self.0.known.lock();
            known.present.hear(said, sent, self.0.begun.elapsed());
        }
        answer
    }

    /// By how much this machine's clock is ahead of the API server's, where that has said the time.
    fn skew(&self) -> Option<SignedDuration> {
        let known = self.0.known.lock();
        known.present.skew(Timestamp::now(), self.0.begun.elapsed())
    }

    /// Waits until this machine's clock and the API server's agree, and says what is wrong while they do not. Once begun, a
    /// clock that leaps is outvoted; until then nobody can tell which of the two is right, and to wait harms no mail.
    pub async fn agree(&self, client: &Client) {
        loop {
            // Whatever it answers, also that this is forbidden, says the time.
            let asked = client.apiserver_version().await;
            match self.skew() {
                Some(skew) if skew.abs() > SKEW => tracing::error!(
                    seconds = skew.as_secs(),
                    "this machine's clock and the API server's differ by more than {} minutes (it is {} here). Nothing is done until they agree: set the one that is wrong, and let NTP keep both",
                    SKEW.as_mins(),
                    Timestamp::now()
                ),
                Some(_) => return,
                None if asked.is_ok() => {
                    tracing::warn!(
                        "the API server's answers do not say the time (Date); this machine's clock is believed alone"
                    );
                    return;
                }
                None => tracing::warn!("the API server does not answer; it is asked again"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl Clock for WitnessedClock {
    fn now(&self) -> Timestamp {
        let mut known = self.0.known.lock();
        let own = Timestamp::now();
        let now = known.present.tell(own, self.0.begun.elapsed());
        let ahead = own.duration_since(now);
        let wrong = ahead.abs() > WRONG;
        if wrong != std::mem::replace(&mut known.wrong, wrong) {
            if wrong {
                tracing::warn!(
                    seconds = ahead.as_secs(),
                    "this machine's clock is off; the API server's time is gone by. Set it, and let NTP keep it"
                );
            } else {
                tracing::info!("this machine's clock is right again");
            }
        }
        now
    }
}

impl Collector for WitnessedClock {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(skew) = self.skew() else { return Ok(()) };
        let gauge = ConstGauge::new(skew.as_secs_f64());
        let metric = encoder.encode_descriptor(
            "clock_skew_seconds",
            "By how much this machine's clock is ahead of the API server's; negative where it is behind. A second or two are rounding",
            None,
            gauge.metric_type(),
        )?;
        gauge.encode(metric)
    }
}

/// What time an answer was made at (RFC 9110 §6.6.1).
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let said = headers.get(header::DATE)?.to_str().ok()?;
    rfc2822::parse(said).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert_eq!(date(&headers), Some("1994-11-06T08:49:37Z".parse().unwrap()));
        headers.insert(header::DATE, "yesterday".parse().unwrap());
        assert_eq!(date(&headers), None);
    }
}
