//! Lists of secrets, as files hold them.

/// Reads a list, one secret a line; lines that are empty or begin with `#` mean nothing. `one` is told the number of its line.
///
/// # Errors
/// What `one` says of the first line that is no secret; `none` where there is no secret.
pub fn read<T, E>(text: &str, none: E, one: impl Fn(usize, &str) -> Result<T, E>) -> Result<Vec<T>, E> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    // A list that had to grow would leave secrets behind in memory.
    let mut secrets = Vec::with_capacity(text.lines().count());
    for (number, line) in lines {
        secrets.push(one(number, line)?);
    }
    if secrets.is_empty() { Err(none) } else { Ok(secrets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_with_those_that_mean_nothing() {
        let numbered = |text| read(text, "none", |number, line| Ok((number, line.to_owned())));
        let found = numbered("# old\r\n\n  a \nb");
        assert_eq!(found, Ok(vec![(3, "a".to_owned()), (4, "b".to_owned())]));
        assert_eq!(numbered(" \n#a\n"), Err("none"));
    }
}
