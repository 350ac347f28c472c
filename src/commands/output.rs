//! What the operator verbs print: a table for people, JSON for scripts. Colours, widths and progress are for terminals only.

use std::io::IsTerminal as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, TableComponent};
use indicatif::ProgressBar;
use serde::Serialize;

use super::Result;

/// One line of JSON on stdout.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value).map_err(anyhow::Error::from)?);
    Ok(())
}

/// A table on stdout, not wider than the terminal. Columns of numbers stand right.
pub(super) fn table<R: IntoIterator<Item = String>>(header: &[&str], rows: impl IntoIterator<Item = R>) {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if header.iter().any(|name| !name.is_empty()) {
        table.set_header(header).set_style(TableComponent::HeaderLines, '─');
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().collect()).collect();
    let is_colourful = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for row in &rows {
        table.add_row(row.iter().map(|text| match colour(text).filter(|_| is_colourful) {
            Some(colour) => Cell::new(text).fg(colour),
            None => Cell::new(text),
        }));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        let cells = || rows.iter().filter_map(|row| row.get(index));
        if !rows.is_empty() && cells().all(|text| text.is_empty() || text.parse::<f64>().is_ok()) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        // on a narrow terminal sentences are broken, words are not: they are copied
        if !cells().any(|text| text.contains(' ')) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    // blanks at the end of a line are nothing to look at
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}

/// Of the words that say how well something is.
fn colour(text: &str) -> Option<Color> {
    match text {
        "ok" => Some(Color::Green),
        "warned" => Some(Color::Yellow),
        "wrong" | "over" => Some(Color::Red),
        _ => None,
    }
}

/// Says on stderr, where that is a terminal, what is being waited for, until it is dropped.
pub(super) fn waiting(what: &'static str) -> Waiting {
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(100));
    Waiting(spinner)
}

/// See [`waiting`].
pub(super) struct Waiting(ProgressBar);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
