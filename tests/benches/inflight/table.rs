//! Prints Markdown tables, and measurements with their goals.

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

/// Prints a header.
pub fn head(cells: &[&str]) {
    row(&cells
        .iter()
        .map(|cell| cell as &dyn Display)
        .collect::<Vec<_>>());
    println!("|{}", "---:|".repeat(cells.len()));
}

/// Prints a measurement with its goal. Returns the line if the goal is missed.
pub fn goal(what: &str, seen: f64, at_most: f64) -> Option<String> {
    let line = format!("{what}: {seen:.1} (goal: at most {at_most:.1})");
    println!("{line}");
    // A missing measurement misses the goal.
    (seen.is_nan() || seen > at_most).then_some(line)
}
