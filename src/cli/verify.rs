//! `kubectl dkim verify`: what a receiver would say of a message.

use std::io::Read;
use std::path::Path;

use super::args::{Output, VerifyArgs};
use super::error::{CliError, Exit};
use super::output;
use crate::signing::{Verdict, Verifier, VerifyReport};

/// Verifies a message; returns what to print and how it ended.
///
/// # Errors
/// [`CliError`] where the message cannot be read or no resolver is there.
pub async fn run(args: &VerifyArgs) -> Result<(String, Exit), CliError> {
    let VerifyArgs { message, resolvers, aligned, output } = args;
    let (_, message) = read(message)?;
    let verifier = if resolvers.is_empty() { Verifier::system() } else { Verifier::new(resolvers) };
    let verifier = verifier.map_err(|e| CliError::Dns(e.to_string()))?;
    let report = verifier.verify(&message).await;
    Ok((render(&report, *output)?, exit(&report, *aligned)))
}

/// Reads a file, or standard input for -; returns how it is called in errors, and what is in it.
///
/// # Errors
/// [`CliError::Input`].
pub fn read(file: &Path) -> Result<(String, Vec<u8>), CliError> {
    let (name, result) = if file == Path::new("-") {
        let mut message = Vec::new();
        ("standard input".to_owned(), std::io::stdin().lock().read_to_end(&mut message).map(|_| message))
    } else {
        (file.display().to_string(), std::fs::read(file))
    };
    match result {
        Ok(content) => Ok((name, content)),
        Err(source) => Err(CliError::Input { file: name, source }),
    }
}

fn exit(report: &VerifyReport, aligned: bool) -> Exit {
    let passes = if aligned { report.passes_aligned() } else { report.passes() };
    let unclear = report.signatures.iter().any(|s| s.verdict == Verdict::TempError);
    match (passes, unclear) {
        (true, _) => Exit::Fine,
        (false, true) => Exit::Unknown,
        (false, false) => Exit::Wrong,
    }
}

/// Prints a report.
///
/// # Errors
/// [`CliError::Output`].
pub fn render(report: &VerifyReport, output: Output) -> Result<String, CliError> {
    match output {
        Output::Table => Ok(report.to_string()),
        Output::Json => output::json(report),
        Output::Yaml => output::yaml(report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::DomainName;
    use crate::signing::testing::shown;
    use crate::signing::{Alignment, BodyHash, SignatureReport};

    fn report(verdicts: &[(Verdict, Alignment)]) -> VerifyReport {
        let signature = |(verdict, alignment): &(Verdict, Alignment)| SignatureReport {
            s: "selector1".into(),
            body_hash: Some(BodyHash { signed: "AAAA".into(), computed: "AAAA".into() }),
            reason: "header and body are as they were signed".into(),
            cause: None,
            ..shown(*verdict, *alignment)
        };
        let from = DomainName::parse("contoso.com").ok();
        VerifyReport { from, from_problem: None, signatures: verdicts.iter().map(signature).collect() }
    }

    #[test]
    fn in_every_format() {
        let report = report(&[(Verdict::Pass, Alignment::Strict)]);
        let all = [Output::Table, Output::Json, Output::Yaml].map(|o| render(&report, o).unwrap());
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn ends_as_a_receiver_would() {
        use Verdict::{Fail, Pass, TempError};
        let (strict, none) = (Alignment::Strict, Alignment::None);
        for (verdicts, plain, aligned) in [
            (vec![(Fail, strict), (Pass, none)], Exit::Fine, Exit::Wrong),
            (vec![(Pass, strict)], Exit::Fine, Exit::Fine),
            (vec![(TempError, strict)], Exit::Unknown, Exit::Unknown),
            (vec![(Fail, strict)], Exit::Wrong, Exit::Wrong),
            (vec![], Exit::Wrong, Exit::Wrong),
        ] {
            let report = report(&verdicts);
            assert_eq!((exit(&report, false), exit(&report, true)), (plain, aligned), "{verdicts:?}");
        }
    }
}
