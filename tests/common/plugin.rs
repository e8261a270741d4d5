//! The kubectl plugin as people run it.

use std::path::Path;

use dkim_testbed::Output;

use super::World;

/// Runs `kubectl dkim ARGS`; returns the exit code with what it printed.
pub async fn dkim(world: &World, args: &[&str], input: &str) -> (i32, Output) {
    let plugin = Path::new(env!("CARGO_BIN_EXE_kubectl-dkim"));
    let all: Vec<&str> = ["dkim"].iter().chain(args).copied().collect();
    let output = world.plane.kubectl_plugin(plugin, &all, input).await.expect("kubectl runs");
    (output.status.code().unwrap_or(-1), output)
}

/// What `kubectl dkim ARGS` printed; it has to end well.
pub async fn printed(world: &World, args: &[&str]) -> String {
    let (code, output) = dkim(world, args, "").await;
    assert_eq!(code, 0, "{args:?}: {}{}", output.stdout, output.stderr);
    output.stdout
}
