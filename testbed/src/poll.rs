//! Waiting for something to become true.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// The first pause between two attempts; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Tries `check` again and again until it returns `Ok`, for at most `timeout`.
///
/// An `Err` means "not yet", and its text tells why: the last one is part of the error when the time is over.
/// An attempt that hangs is given up when the time is over, too.
///
/// ```no_run
/// # async fn example(file: &std::path::Path) -> dkim_testbed::Result<()> {
/// use std::time::Duration;
/// let text = dkim_testbed::eventually(Duration::from_secs(5), "the file is there", || async {
///     std::fs::read_to_string(file)
/// })
/// .await?;
/// # drop(text); Ok(()) }
/// ```
///
/// # Errors
/// [`Error::TimedOut`] with the text of the last attempt.
pub async fn eventually<T, E, F, Fut>(timeout: Duration, what: &str, mut check: F) -> Result<T>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = std::result::Result<T, E>>,
{
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0;
    let mut last = String::from("nothing");
    loop {
        let left = timeout.saturating_sub(started.elapsed());
        if attempts > 0 && left.is_zero() {
            let waited = started.elapsed();
            return Err(Error::TimedOut { what: what.to_owned(), waited, attempts, last });
        }
        attempts += 1;
        match tokio::time::timeout(left, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason.to_string(),
            Err(_) => last = format!("{last} (the attempt after that gave no answer)"),
        }
        tokio::time::sleep(pause.min(timeout.saturating_sub(started.elapsed()))).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}
