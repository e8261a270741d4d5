//! The limits, in virtual time.

use proptest::prelude::*;

use super::*;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn zone(number: u8) -> DnsName {
    DnsName::new(format!("z{number}.example")).unwrap()
}

/// Whom a question was for, and when it went out.
type Sent = Arc<parking_lot::Mutex<Vec<(Instant, IpAddr, Option<DnsName>)>>>;

fn ask(
    pacer: &Arc<Pacer>,
    sent: &Sent,
    server: u8,
    of: Option<u8>,
    urgent: bool,
) -> tokio::task::JoinHandle<()> {
    let (pacer, sent) = (pacer.clone(), sent.clone());
    tokio::spawn(async move {
        let zone = of.map(zone);
        pacer.pass(ip(server), zone.as_ref(), urgent).await;
        sent.lock().push((Instant::now(), ip(server), zone));
    })
}

/// The most within any second.
fn busiest(times: &[Instant]) -> usize {
    let within = |from: &Instant| {
        let last = *from + Duration::from_secs(1);
        times.iter().filter(|at| *at >= from && **at < last).count()
    };
    times.iter().map(within).max().unwrap_or(0)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn no_second_sees_more_than_the_limits(
        questions in proptest::collection::vec((0u8..4, proptest::option::of(0u8..4), any::<bool>(), 0u64..60), 1..400),
        total in 5u32..200, server in 3u32..60, zone_limit in 2u32..40,
    ) {
        let limits = Limits { total, server, zone: zone_limit };
        let sent: Sent = Arc::default();
        runtime().block_on(async {
            let pacer = Arc::new(Pacer::new(limits));
            let mut all = Vec::new();
            for (server, zone, urgent, pause) in questions {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                all.push(ask(&pacer, &sent, server, zone, urgent));
            }
            futures::future::join_all(all).await;
        });
        let sent = sent.lock();
        let of = |keep: &dyn Fn(&IpAddr, &Option<DnsName>) -> bool| -> Vec<Instant> {
            sent.iter().filter(|(_, ip, zone)| keep(ip, zone)).map(|(at, ..)| *at).collect()
        };
        prop_assert!(busiest(&of(&|_, _| true)) <= total as usize);
        for n in 0..4 {
            prop_assert!(busiest(&of(&|server_ip, _| *server_ip == ip(n))) <= server as usize);
            prop_assert!(busiest(&of(&|_, of| *of == Some(zone(n)))) <= zone_limit as usize);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn uses_what_it_may() {
    let pacer = Arc::new(Pacer::new(Limits { total: 100, server: 1000, zone: 1000 }));
    let (sent, begin) = (Sent::default(), Instant::now());
    let all: Vec<_> = (0..200).map(|n| ask(&pacer, &sent, n, None, true)).collect();
    futures::future::join_all(all).await;
    let took = begin.elapsed().as_secs_f64();
    assert!((1.9..2.3).contains(&took), "200 questions at 100 a second took {took} s");
}

#[tokio::test(start_paused = true)]
async fn who_is_waited_for_goes_ahead() {
    let pacer = Arc::new(Pacer::new(Limits { total: 100, server: 1000, zone: 1000 }));
    let sent = Sent::default();
    for n in 0..200 {
        ask(&pacer, &sent, n, None, false);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begin = Instant::now();
    futures::future::join_all((0..10).map(|n| ask(&pacer, &sent, n, None, true))).await;
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(300), "10 urgent ones took {took:?} behind 160 that were not");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_keeps_nobody_waiting() {
    let pacer = Arc::new(Pacer::new(Limits { total: 1000, server: 1, zone: 1000 }));
    let sent = Sent::default();
    ask(&pacer, &sent, 1, None, true).await.unwrap();
    let waiting = ask(&pacer, &sent, 1, None, true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    waiting.abort();
    let begin = Instant::now();
    ask(&pacer, &sent, 2, None, true).await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(50));
    ask(&pacer, &sent, 1, None, true).await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(1000), "the turn was not lost with the one that gave up");
}

#[tokio::test(start_paused = true)]
async fn a_ration_ends() {
    let ten = Duration::from_secs(10);
    let ration = Ration::new(3, ten, ten);
    assert_eq!((0..5).filter_map(|_| ration.take()).count(), 3);
    let ration = Ration::new(100, ten, ten * 3);
    tokio::time::sleep(ten).await;
    assert!(ration.take().is_none(), "time is up");
    ration.waited(ten);
    assert!(ration.take().is_some(), "who had to wait gets more");
    tokio::time::sleep(ten * 2).await;
    ration.waited(ten);
    assert!(ration.take().is_none(), "but not for ever");
}
