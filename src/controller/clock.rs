//! Where time comes from: this machine's clock, held against what each answer of the API server says.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

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

use super::error::Error;
use crate::model::present::{Present, Standing, TOLERANCE, Told, Unready};
use crate::uptime::since_boot;

/// Longest pause before clocks are compared again that differ too much, and longest wait for an answer of the API server.
const AGAIN: Duration = Duration::from_secs(10);

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The present moment, in whole seconds or finer; the earliest that it can be, where that is in doubt.
    fn now(&self) -> Timestamp;

    /// The same, for what is decided.
    ///
    /// # Errors
    /// [`Error::Clocks`] where it is in doubt.
    fn sure(&self) -> Result<Timestamp, Error>;
}

/// The clock of the machine, outvoted where it leaps: see [`Present`]. Clones are one clock.
#[derive(Debug, Clone, Default)]
pub struct WitnessedClock(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    present: Present,
    /// What of the clocks was logged last.
    told: Option<Discriminant<Standing>>,
}

impl WitnessedClock {
    /// A client of the API server whose answers the clock listens to, and that clock.
    ///
    /// # Errors
    /// Where the configuration cannot be used.
    pub fn listening(config: kube::Config) -> kube::Result<(Client, Self)> {
        let clock = Self::default();
        let listens = clock.clone();
        let layer = MapFutureLayer::new(move |answer| listens.clone().listen(answer));
        Ok((ClientBuilder::try_from(config)?.with_layer(&layer).build(), clock))
    }

    async fn listen<B, E>(
        self,
        answer: impl Future<Output = Result<http::Response<B>, E>>,
    ) -> Result<http::Response<B>, E> {
        let sent = since_boot();
        let answer = answer.await;
        if let Some(said) = answer.as_ref().ok().and_then(|answer| date(answer.headers())) {
            self.0.lock().present.hear(said, sent, since_boot());
        }
        answer
    }

    /// Waits until this machine's clock and the API server's agree, and says what is wrong while they do not. Once begun, a
    /// clock that leaps is outvoted; until then nobody can tell which of the two is right, and to wait harms no mail.
    pub async fn agree(&self, client: &Client) {
        let mut pause = Duration::from_secs(1);
        loop {
            // Whatever it answers, also that this is forbidden, says the time.
            let asked = tokio::time::timeout(AGAIN, client.apiserver_version()).await;
            let now = Timestamp::now();
            let begun = self.0.lock().present.begin(now, since_boot());
            match (begun, asked) {
                (Ok(()), _) => return,
                (Err(Unready::Apart(apart)), _) => tracing::error!(
                    "this machine's clock is {} the API server's (it is {now} here). Nothing is done until they agree to {} seconds: set the one that is wrong, and let NTP keep both",
                    against(apart),
                    TOLERANCE.as_secs()
                ),
                (Err(Unready::Unheard), Ok(Ok(_) | Err(kube::Error::Api(_)))) => {
                    tracing::warn!(
                        "the API server's answers do not say the time (Date); this machine's clock is believed alone"
                    );
                    return;
                }
                (Err(Unready::Unheard), Ok(Err(error))) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the API server cannot be asked; it is tried again. It is {now} by this machine's clock: one that is wrong makes certificates seem invalid"
                ),
                (Err(Unready::Unheard), Err(_)) => {
                    tracing::warn!("the API server does not answer; it is asked again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN);
        }
    }

    fn tell(&self) -> Told {
        let mut known = self.0.lock();
        let told = known.present.tell(Timestamp::now(), since_boot());
        let standing = discriminant(&told.standing);
        if known.told.replace(standing).is_some_and(|before| before != standing) {
            log(told.standing);
        }
        told
    }
}

/// How one clock is against another.
fn against(apart: SignedDuration) -> String {
    let way = if apart.is_negative() { "behind" } else { "ahead of" };
    format!("{} s {way}", apart.as_secs().abs())
}

fn log(standing: Standing) {
    match standing {
        Standing::Agreed => tracing::info!("the clocks of this machine and of the API server agree again"),
        Standing::MachineOff(apart) => tracing::warn!(
            "this machine's clock is {} the API server's and what was counted; time goes on without it. Set it, and let NTP keep it",
            against(apart)
        ),
        Standing::ServerOff(apart) => tracing::warn!(
            "the API server's clock is {} this machine's and what was counted; time goes on without it. Set it, and let NTP keep it",
            against(apart)
        ),
        Standing::Doubtful { server, own } => tracing::error!(
            "the API server's clock is {} what was counted, and this machine's {}: nobody can tell which is right. Nothing is decided until they agree; set the one that is wrong, and let NTP keep both",
            against(server),
            against(own)
        ),
    }
}

impl Clock for WitnessedClock {
    fn now(&self) -> Timestamp {
        self.tell().present
    }

    fn sure(&self) -> Result<Timestamp, Error> {
        let Told { present, standing } = self.tell();
        match standing {
            Standing::Doubtful { .. } => Err(Error::Clocks),
            _ => Ok(present),
        }
    }
}

impl Collector for WitnessedClock {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let skew = self.0.lock().present.skew(Timestamp::now(), since_boot());
        let Some(skew) = skew else { return Ok(()) };
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
    use std::sync::atomic::{AtomicI64, Ordering};

    use axum::Router;
    use http::StatusCode;

    use super::*;

    /// An API server whose clock is off by so many seconds.
    async fn server(off: &Arc<AtomicI64>) -> kube::Config {
        let off = Arc::clone(off);
        let answer = move || {
            let now =
                Timestamp::now().checked_add(SignedDuration::from_secs(off.load(Ordering::Relaxed))).unwrap();
            let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap();
            let status =
                r#"{"kind":"Status","status":"Failure","code":403,"reason":"Forbidden","message":"no"}"#;
            async move {
                (
                    StatusCode::FORBIDDEN,
                    [("date", date), ("content-type", "application/json".to_owned())],
                    status,
                )
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
        kube::Config::new(uri)
    }

    fn error(clock: &WitnessedClock) -> i64 {
        clock.now().duration_since(Timestamp::now()).as_secs()
    }

    #[tokio::test]
    async fn an_api_server_whose_clock_leaps_is_not_believed() {
        let off = Arc::new(AtomicI64::new(0));
        let (client, clock) = WitnessedClock::listening(server(&off).await).unwrap();
        clock.agree(&client).await;
        assert!((-2..=0).contains(&error(&clock)));
        for (leap, doubt) in [(-86_400, false), (86_400, true), (0, false)] {
            off.store(leap, Ordering::Relaxed);
            client.apiserver_version().await.unwrap_err();
            assert!((-2..=0).contains(&error(&clock)), "{leap}: {}", error(&clock));
            assert_eq!(clock.sure().is_err(), doubt, "{leap}");
        }
    }

    #[tokio::test]
    async fn nothing_begins_while_the_clocks_differ() {
        let off = Arc::new(AtomicI64::new(-90));
        let (client, clock) = WitnessedClock::listening(server(&off).await).unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(500), clock.agree(&client)).await;
        assert!(waits.is_err(), "it has begun");
        off.store(-20, Ordering::Relaxed);
        clock.agree(&client).await;
        assert!((-22..=-20).contains(&error(&clock)), "by the API server: {}", error(&clock));
    }

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
