//! Results to text, text to standard output.

use std::io::{ErrorKind, IsTerminal, Write};

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

/// Asks the user at a terminal; only yes is yes. `None` where there is no terminal to ask at.
///
/// # Errors
/// [`CliError::Output`].
pub fn confirm(question: &str) -> Result<Option<bool>, CliError> {
    let (input, mut out) = (std::io::stdin(), anstream::stderr().lock());
    if !input.is_terminal() {
        return Ok(None);
    }
    let mut answer = String::new();
    write!(out, "{question} [y/N] ")
        .and_then(|()| out.flush())
        .and_then(|()| input.read_line(&mut answer))
        .map_err(|e| CliError::Output(e.to_string()))?;
    Ok(Some(is_yes(&answer)))
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

/// Tells the user something beside the result.
pub fn note(text: &str) {
    // Where standard error is gone there is nobody left to tell.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", "Yes\r\n", " YES "].into_iter().all(is_yes));
        assert!(!["", "\n", "n\n", "yesterday\n", "ja\n"].into_iter().any(is_yes));
    }
}
