//! Chaos on the test bed: processes are killed and stalled, networks stand still, tenants change their minds, and keys
//! are rolled all the while; every message that leaves must be signed, and verifiable until its drain is over.
//!
//! Without arguments it is a short run, as `make test` has it; `--long` is that of `make chaos`, and `--seed S` replays
//! the faults of a run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod kubelet;
mod ledger;
mod others;
mod plan;
mod post;
mod run;
mod schedule;
mod signer;
mod stage;
mod verdict;
mod verifiers;

use std::path::Path;
use std::process::ExitCode;

use plan::Plan;

/// What may fail.
type Fallible<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, directory] = args.as_slice()
        && role == signer::ROLE
    {
        return signer::serve(Path::new(directory));
    }
    let plan = match Plan::of(&args) {
        Ok(Some(plan)) => plan,
        Ok(None) => return ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("chaos: {fault}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(run::run(&plan)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("chaos: failed: {error} seed={}", plan.seed);
            ExitCode::FAILURE
        }
    }
}
