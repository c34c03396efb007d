//! Figures of a section, and the table of them: one column for each binary, and their ratio.

use std::time::Duration;

/// What one measurement of a section gave.
#[derive(Clone)]
pub(crate) struct Figures {
    title: String,
    rows: Vec<(String, f64)>,
}

impl Figures {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, label: impl Into<String>, value: f64) {
        self.rows.push((label.into(), value));
    }

    /// Median, 99th percentile and maximum.
    pub(crate) fn latencies(&mut self, what: &str, mut latencies: Vec<Duration>) {
        latencies.sort_unstable();
        let at = |percent: usize| {
            let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            latencies.get(index).map_or(f64::NAN, Duration::as_secs_f64) * 1e3
        };
        self.row(format!("{what} p50, ms"), at(50));
        self.row(format!("{what} p99, ms"), at(99));
        self.row(format!("{what} max, ms"), at(100));
    }
}

/// Prints the medians of the rounds of one binary, or of a baseline and this one side by side.
pub(crate) fn print(section: &str, columns: &[Vec<Figures>]) {
    let first = &columns[0][0];
    println!("\n{section}: {}", first.title);
    if columns.len() == 2 {
        println!("  {:<44} {:>12} {:>12} {:>8}", "", "baseline", "this", "ratio");
    }
    for (index, (label, _)) in first.rows.iter().enumerate() {
        let values: Vec<f64> = columns.iter().map(|rounds| median(rounds, index)).collect();
        let cells: String = values.iter().map(|value| format!(" {:>12}", shown(*value))).collect();
        let ratio = match values[..] {
            [baseline, this] => format!(" {:>8.2}", this / baseline),
            _ => String::new(),
        };
        println!("  {label:<44}{cells}{ratio}");
    }
}

fn median(rounds: &[Figures], row: usize) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(|figures| figures.rows[row].1).collect();
    values.sort_unstable_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

/// As many digits as say something.
fn shown(value: f64) -> String {
    let digits = if value >= 100.0 { 0 } else { 2 };
    format!("{value:.digits$}")
}
