//! Results to text, text to standard output.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use super::error::CliError;

/// JSON, as people can read it.
///
/// # Errors
/// [`CliError::Output`].
pub fn json(value: &impl Serialize) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| CliError::Output(e.to_string()))?;
    Ok(text + "\n")
}

/// YAML.
///
/// # Errors
/// [`CliError::Output`].
pub fn yaml(value: &impl Serialize) -> Result<String, CliError> {
    serde_saphyr::to_string(value).map_err(|e| CliError::Output(e.to_string()))
}

/// Prints a result. Colours go only to terminals whose user has not set `NO_COLOR`; a reader that has gone away
/// (such as head) is no fault.
///
/// # Errors
/// [`CliError::Output`].
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error.to_string())),
        _ => Ok(()),
    }
}

/// Tells the user something beside the result.
pub fn note(text: &str) {
    // Where standard error is gone there is nobody left to tell.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}
