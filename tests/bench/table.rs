//! How are the samples shown? Medians side by side, and ours against theirs.

use std::collections::BTreeMap;

/// What a row is called; rows stand in their order.
pub trait Row: Copy + Ord {
    /// Name and unit.
    fn title(self) -> String;
}

/// What one go in one column gave, each row in its own unit.
pub type Samples<R> = BTreeMap<R, f64>;

/// All samples, by row and column. A column that has no such row shows a dash.
pub struct Table<R> {
    heading: String,
    columns: Vec<String>,
    ratios: Vec<(String, usize, usize)>,
    samples: BTreeMap<R, Vec<Vec<f64>>>,
}

impl<R: Row> Table<R> {
    /// An empty table; `heading` says what stands in the cells.
    pub fn new(heading: impl Into<String>, columns: Vec<String>) -> Self {
        Self {
            heading: heading.into(),
            columns,
            ratios: Vec::new(),
            samples: BTreeMap::new(),
        }
    }

    /// Adds a column of ratios of medians, where both columns are there.
    pub fn compare(&mut self, title: &str, ours: Option<usize>, theirs: Option<usize>) {
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            self.ratios.push((title.into(), ours, theirs));
        }
    }

    /// Takes what one go in a column gave.
    pub fn add(&mut self, column: usize, samples: Samples<R>) {
        for (row, value) in samples {
            let all = self
                .samples
                .entry(row)
                .or_insert_with(|| vec![Vec::new(); self.columns.len()]);
            if let Some(column) = all.get_mut(column) {
                column.push(value);
            }
        }
    }

    /// The column titles.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The median of a cell that has samples.
    pub fn median(&self, row: R, column: usize) -> Option<f64> {
        quantile(self.samples.get(&row)?.get(column)?, 0.5)
    }

    /// The table in Markdown: median (95th percentile), then the ratios.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n| |", self.heading);
        let ratios = self.ratios.iter().map(|(title, _, _)| title);
        for title in self.columns.iter().chain(ratios) {
            text += &format!(" {title} |");
        }
        text += "\n|---|";
        text += &"---:|".repeat(self.columns.len() + self.ratios.len());
        for (row, columns) in &self.samples {
            text += &format!("\n| {} |", row.title());
            for samples in columns {
                text += &cell(samples);
            }
            for (_, ours, theirs) in &self.ratios {
                text += &match (self.median(*row, *ours), self.median(*row, *theirs)) {
                    (Some(ours), Some(theirs)) if theirs > 0.0 => {
                        format!(" {:.2} |", ours / theirs)
                    }
                    _ => " – |".into(),
                };
            }
        }
        text
    }
}

fn cell(samples: &[f64]) -> String {
    match (quantile(samples, 0.5), quantile(samples, 0.95)) {
        (Some(median), Some(_)) if samples.len() == 1 => format!(" {} |", figure(median)),
        (Some(median), Some(high)) => format!(" {} ({}) |", figure(median), figure(high)),
        _ => " – |".into(),
    }
}

/// Three digits that mean something.
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 99.5 => format!("{value:.0}"),
        v if v >= 9.95 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The sample below which this share of them lies.
pub fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)? as f64;
    // In range: a share of the last index.
    sorted.get((last * share).round() as usize).copied()
}
