//! How it is told: a table in Markdown, and goals beside the figures.

use std::fmt::Display;

/// Prints a row.
pub fn row(cells: &[&dyn Display]) {
    println!(
        "|{}",
        cells
            .iter()
            .map(|cell| format!(" {cell} |"))
            .collect::<String>()
    );
}

/// Prints a head.
pub fn head(cells: &[&str]) {
    row(&cells
        .iter()
        .map(|cell| cell as &dyn Display)
        .collect::<Vec<_>>());
    println!("|{}", "---:|".repeat(cells.len()));
}

/// Prints what was seen beside its goal; gives it back if the goal is missed.
pub fn goal(what: &str, seen: f64, at_most: f64) -> Option<String> {
    let line = format!("{what}: {seen:.1} (goal: at most {at_most:.1})");
    println!("{line}");
    // Nothing is as good as no number.
    (seen.is_nan() || seen > at_most).then_some(line)
}
