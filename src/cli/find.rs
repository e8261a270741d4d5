//! Which DkimDomain is meant: by its domain as people write it, or by its name.

use kube::ResourceExt;

use crate::api::DkimDomain;
use crate::model::name::DomainName;

/// How many other domains an error names.
const MOST_NAMED: usize = 5;

/// Where was looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One namespace.
    Namespace(String),
    /// All of them.
    All,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Self::All => f.write_str("any namespace"),
        }
    }
}

/// Why it is not clear which one is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// None fits.
    #[error("there is no DkimDomain for {asked} in {scope}{}", remedy(scope, others))]
    None {
        /// What was asked for.
        asked: String,
        /// Where.
        scope: Scope,
        /// What there is, for people who mistyped.
        others: Vec<String>,
    },
    /// Several fit.
    #[error("there are {} DkimDomains for {asked}: {}; choose one with -n NAMESPACE or by its name", found.len(), found.join(", "))]
    Several {
        /// What was asked for.
        asked: String,
        /// Each as NAMESPACE/NAME.
        found: Vec<String>,
    },
}

fn remedy(scope: &Scope, others: &[String]) -> String {
    let named = others.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = others.len().saturating_sub(MOST_NAMED);
    let list = match (others.is_empty(), more) {
        (true, _) => "; there is none at all".to_owned(),
        (false, 0) => format!("; there are: {named}"),
        (false, _) => format!("; there are: {named} and {more} more"),
    };
    match scope {
        Scope::Namespace(_) => format!("{list}. Choose another namespace with -n, or look in all with -A"),
        Scope::All => format!("{list}. kubectl dkim status -A lists them; kubectl apply makes one"),
    }
}

/// `NAMESPACE/NAME`.
#[must_use]
pub fn reference(object: &DkimDomain) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Finds the one whose domain is `asked`, or else the one whose name is.
///
/// # Errors
/// [`FindError`] where none or several fit.
pub fn find<'a>(objects: &'a [DkimDomain], asked: &str, scope: &Scope) -> Result<&'a DkimDomain, FindError> {
    let domain = DomainName::parse(asked).ok();
    let by_domain =
        |object: &&DkimDomain| domain.is_some() && DomainName::parse(&object.spec.domain).ok() == domain;
    let by_name = |object: &&DkimDomain| object.name_any().eq_ignore_ascii_case(asked);
    let mut found: Vec<&DkimDomain> = objects.iter().filter(by_domain).collect();
    if found.is_empty() {
        found = objects.iter().filter(by_name).collect();
    }
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let mut others: Vec<String> = objects.iter().map(|o| o.spec.domain.clone()).collect();
            others.sort();
            Err(FindError::None { asked: asked.to_owned(), scope: scope.clone(), others })
        }
        several => Err(FindError::Several {
            asked: asked.to_owned(),
            found: several.iter().map(|o| reference(o)).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::bare;

    fn ns() -> Scope {
        Scope::Namespace("mail".into())
    }

    #[test]
    fn finds_by_domain_in_any_form_and_by_name() {
        let all = [bare("mail", "books", "Bücher.example"), bare("mail", "contoso", "contoso.com")];
        for asked in ["bücher.example", "BÜCHER.example.", "xn--bcher-kva.example", "books"] {
            assert_eq!(find(&all, asked, &ns()).unwrap().name_any(), "books", "{asked}");
        }
        assert_eq!(find(&all, "Contoso.COM", &ns()).unwrap().name_any(), "contoso");
    }

    #[test]
    fn a_domain_goes_before_a_name() {
        let all = [bare("mail", "contoso.com", "fabrikam.com"), bare("mail", "fabrikam.com", "contoso.com")];
        assert_eq!(find(&all, "contoso.com", &ns()).unwrap().name_any(), "fabrikam.com");
    }

    #[test]
    fn says_what_there_is_instead() {
        let all: Vec<DkimDomain> =
            (1..=7).map(|i| bare("mail", &format!("d{i}"), &format!("d{i}.example"))).collect();
        let words = [
            find(&[], "contoso.com", &ns()).unwrap_err().to_string(),
            find(&all[..2], "contoso.com", &ns()).unwrap_err().to_string(),
            find(&all, "contoso.com", &Scope::All).unwrap_err().to_string(),
            find(&[bare("a", "x", "contoso.com"), bare("b", "x", "contoso.com")], "contoso.com", &Scope::All)
                .unwrap_err()
                .to_string(),
        ];
        insta::assert_snapshot!(words.join("\n"));
    }
}
