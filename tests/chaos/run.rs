//! One run, from the first server to the verdict.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dkim_testbed::Scratch;
use kube::api::Api;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::Fallible;
use crate::common::random::Random;
use crate::faults;
use crate::kubelet::{Kubelet, Seen};
use crate::others;
use crate::plan::Plan;
use crate::post::{LATEST, Message, Post};
use crate::schedule::{Fault, Schedule};
use crate::signer::{Made, Signer};
use crate::stage::{DNS_SERVERS, Stage};
use crate::verdict::Verdict;

/// How often a long run tells how it goes.
const TELL: Duration = Duration::from_secs(20);

/// Runs, and tells. Returns whether all is well.
pub async fn run(plan: &Plan) -> Fallible<bool> {
    eprintln!("chaos: seed={} domains={}; starting servers", plan.seed, plan.domains);
    let stage = Arc::new(Stage::set(plan.domains).await?);
    let mounts = Scratch::new("mounts")?;
    let secrets = Api::namespaced(stage.world.client(), &stage.namespace);
    let kubelet = Kubelet::new(secrets, mounts.path(), plan.seed);
    let seen = kubelet.seen();
    let began = Instant::now();
    let (stop_faults, stopped) = watch::channel(false);
    let faults = tokio::spawn(hit(stage.clone(), plan.seed, began, stopped, plan.long));
    let (stop, stopped) = watch::channel(false);
    let kubelet = tokio::spawn(kubelet.work(stopped.clone()));
    let others = others::ask(stage.world.tree.resolver(), stage.domains.clone(), stopped);
    let others = tokio::spawn(others);

    let mut office = Office {
        signer: Signer::start(mounts.path())?,
        post: Post::new(stage.world.tree.resolver(), began)?,
        random: Random::new(plan.seed ^ 0x6d61_696c),
        letters: Scratch::new("letters")?,
        seen: seen.clone(),
        began,
        sent: 0,
        held: 0,
        unsigned: Vec::new(),
    };
    office.work(plan, &stage.domains, &faults).await?;
    let _ = stop_faults.send(true);
    let faults = faults.await??;
    office.post.end().await;
    let _ = stop.send(true);
    kubelet.await??;
    others.await?;

    let Office { post, held, unsigned, sent, .. } = office;
    let events = stage.world.plane.kubectl(["get", "events", "-A", "-o", "json"]).await?.ok()?;
    let good = {
        let ledger = seen.ledger.lock();
        let verdict = Verdict {
            plan,
            took: began.elapsed(),
            faults: &faults,
            ledger: &ledger,
            tally: post.tally(),
            unsigned: &unsigned,
            sent,
            held,
            loss_reported: events.contains("KeysLost"),
        };
        verdict.tell()
    };
    if !good {
        eprintln!("chaos: the end of the controller's log:\n{}", stage.log_tail().await);
    }
    Ok(good)
}

/// Lets faults happen until it is told to stop; returns those that did, when all are over.
async fn hit(
    stage: Arc<Stage>,
    seed: u64,
    began: Instant,
    mut stopped: watch::Receiver<bool>,
    aloud: bool,
) -> Fallible<Vec<Fault>> {
    let mut happening = JoinSet::new();
    let mut all = Vec::new();
    for fault in Schedule::new(seed, stage.domains.len(), DNS_SERVERS) {
        tokio::select! {
            () = sleep_until((began + fault.at).into()) => {}
            _ = stopped.changed() => break,
        }
        if aloud {
            eprintln!("{fault}");
        }
        all.push(fault);
        let stage = stage.clone();
        happening.spawn(async move {
            faults::happen(&stage, fault).await.map_err(|error| format!("{fault}: {error}"))
        });
        while let Some(over) = happening.try_join_next() {
            over??;
        }
    }
    while let Some(over) = happening.join_next().await {
        over??;
    }
    Ok(all)
}

/// Where mail is written, signed and posted.
struct Office {
    signer: Signer,
    post: Post,
    random: Random,
    letters: Scratch,
    seen: Arc<Seen>,
    began: Instant,
    sent: u64,
    /// Not sent, since the signer's copy of the Secret might have been too old.
    held: u64,
    unsigned: Vec<String>,
}

impl Office {
    /// Until the goals are reached, or time is over.
    async fn work(
        &mut self,
        plan: &Plan,
        domains: &[String],
        faults: &JoinHandle<Fallible<Vec<Fault>>>,
    ) -> Fallible {
        let mut tick = interval(plan.pause);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Instant::now();
        for domain in domains.iter().cycle() {
            tick.tick().await;
            self.write(domain).await?;
            if plan.long && told.elapsed() >= TELL {
                told = Instant::now();
                self.tell();
            }
            let passed = self.began.elapsed();
            let verified = self.post.tally().verified.load(Ordering::Relaxed);
            let reached = verified >= plan.messages && self.seen.ledger.lock().rotations() >= plan.rotations;
            // Faults do not end by themselves, except where one could not be made to happen.
            if (passed >= plan.least && reached) || passed >= plan.most || faults.is_finished() {
                break;
            }
        }
        Ok(())
    }

    async fn write(&mut self, domain: &str) -> Fallible {
        let Some(good_until) = self.seen.good_until(domain).filter(|until| Instant::now() < *until) else {
            self.held += 1;
            return Ok(());
        };
        let number = self.sent + self.held;
        let file = self.letters.join(format!("{number}.eml"));
        match self.signer.sign(number, domain, file).await? {
            Made::Signed { file, at, .. } if at > good_until => {
                self.held += 1;
                std::fs::remove_file(file)?;
            }
            Made::Signed { file, how, at } => {
                self.sent += 1;
                // At any time, and every other time as late as can be.
                let late = if self.random.below(2) == 0 { LATEST } else { self.random.upto(LATEST) };
                self.post.take(Message { file, how, at }, late);
            }
            Made::Unsigned(why) => {
                self.sent += 1;
                self.unsigned.push(format!("at {:.1}s {why}", self.began.elapsed().as_secs_f64()));
            }
        }
        Ok(())
    }

    fn tell(&self) {
        let tally = self.post.tally();
        eprintln!(
            "[{:>6.1}s] rotations={} messages={} unverifiable={} unsigned={} missed={} held={}",
            self.began.elapsed().as_secs_f64(),
            self.seen.ledger.lock().rotations(),
            tally.verified.load(Ordering::Relaxed),
            tally.unverifiable.lock().len(),
            self.unsigned.len(),
            tally.missed.load(Ordering::Relaxed),
            self.held,
        );
    }
}
