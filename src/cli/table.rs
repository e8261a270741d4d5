//! Text for terminals: columns, colours, and nothing that could steer the terminal.

use std::fmt;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

/// What is as it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What is wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What is under way or unclear.
pub const UNSURE: Style = AnsiColor::Yellow.on_default();
/// Headings.
pub const HEAD: Style = Style::new().bold();

/// Spaces between columns.
const GAP: usize = 3;

/// Text from DNS or from the cluster, safe to print: control characters are replaced.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Text in a style. Styles are stripped where the output is no terminal.
#[must_use]
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{}{style:#}", plain(text))
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    #[must_use]
    pub fn styled(text: &str, style: Style) -> Self {
        Self { text: plain(text), style }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::styled(text, Style::new())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// Columns as kubectl has them.
#[derive(Debug, Clone, Default)]
pub struct Table {
    indent: usize,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with a heading.
    #[must_use]
    pub fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| Cell::styled(head, HEAD)).collect();
        Self { indent: 0, rows: vec![heads] }
    }

    /// A table without a heading, moved to the right.
    #[must_use]
    pub fn headless(indent: usize) -> Self {
        Self { indent, rows: Vec::new() }
    }

    /// Moves it to the right.
    #[must_use]
    pub fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut space = self.indent;
            for (cell, width) in row.iter().zip(&widths) {
                let Cell { text, style } = cell;
                if !text.is_empty() {
                    write!(f, "{:space$}{style}{text}{style:#}", "")?;
                    space = 0;
                }
                space += width - text.width() + GAP;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_what_is_seen() {
        let mut table = Table::new(&["NAME", "STATE", "NOTE"]);
        table.row(["日本.example".into(), Cell::styled("ok", GOOD), "x".into()]);
        table.row(["a.example".into(), "".into(), "\u{1b}[2Jy".into()]);
        let text = table.to_string();
        assert!(text.contains("\u{1b}[32mok\u{1b}[0m"), "{text:?}");
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            text,
            "NAME           STATE   NOTE\n日本.example   ok      x\na.example              \u{fffd}[2Jy\n"
        );
    }
}
