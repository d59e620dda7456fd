//! How are the samples shown? Medians side by side, and ours against the Go shim with crun.

use std::collections::BTreeMap;

use crate::life::Samples;

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is explained by its title")]
pub enum Row {
    StartShim,
    Create,
    Start,
    Delete,
    WholeLife,
    Exec,
    Kill,
    Pss,
    PrivateDirty,
    OpenFiles,
    CommandLine,
}

impl Row {
    fn title(self) -> &'static str {
        match self {
            Row::StartShim => "`start` of a shim, ms",
            Row::Create => "Create, ms",
            Row::Start => "Start, ms",
            Row::Delete => "Delete, ms",
            Row::WholeLife => "start … delete of `/bin/true`, ms",
            Row::Exec => "exec + start + wait + delete, ms",
            Row::Kill => "Kill(9) … Wait answered, ms",
            Row::Pss => "memory of the serving process, PSS, MB",
            Row::PrivateDirty => "its private dirty memory, MB",
            Row::OpenFiles => "fds gained in 20 execs",
            Row::CommandLine => "command line: `run` of `/bin/true`, ms",
        }
    }
}

/// All samples, by row and column.
pub struct Table {
    columns: Vec<&'static str>,
    rounds: usize,
    samples: BTreeMap<Row, Vec<Vec<f64>>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: Vec<&'static str>, rounds: usize) -> Self {
        Self {
            columns,
            rounds,
            samples: BTreeMap::new(),
        }
    }

    /// Takes what one life in a column gave.
    pub fn add(&mut self, column: usize, samples: Samples) {
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

    /// The table in Markdown: median (90th percentile), and the ratio of the last column to the one before.
    pub fn markdown(&self) -> String {
        let ratio = self.columns.len() > 1;
        let mut text = format!(
            "Medians of {} lives, in brackets the 90th percentile.\n\n| |",
            self.rounds
        );
        for title in &self.columns {
            text += &format!(" {title} |");
        }
        if ratio {
            text += " last / before |";
        }
        text += "\n|---|";
        text += &"---|".repeat(self.columns.len() + usize::from(ratio));
        for (row, columns) in &self.samples {
            text += &format!("\n| {} |", row.title());
            for column in columns {
                text += &format!(" {:.2} ({:.2}) |", at(column, 0.5), at(column, 0.9));
            }
            if let (true, [.., before, last]) = (ratio, columns.as_slice()) {
                text += &match at(before, 0.5) {
                    0.0 => " |".to_string(),
                    median => format!(" {:.2} |", at(last, 0.5) / median),
                };
            }
        }
        text
    }
}

/// The sample below which this share of them lies.
fn at(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    // In range: a share of the last index.
    sorted
        .get((last * share).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}
