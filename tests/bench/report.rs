//! Where does a measurement go? Its tables to standard output and target/results, its picture to docs.

use std::fs;
use std::path::PathBuf;

use rsrun_tests::suite::Check;

/// What one `make bench…` found.
pub struct Report {
    name: &'static str,
    markdown: String,
    chart: Option<(&'static str, String)>,
}

impl Report {
    /// Tables in Markdown; `name` becomes the file's.
    pub fn new(name: &'static str, markdown: impl Into<String>) -> Self {
        Self {
            name,
            markdown: markdown.into(),
            chart: None,
        }
    }

    /// Adds a picture, if there is something to draw.
    pub fn with_chart(mut self, file: &'static str, svg: Option<String>) -> Self {
        self.chart = svg.map(|svg| (file, svg));
        self
    }

    /// Prints and writes all of it. `RSRUN_BENCH_CHARTS` names another directory for the picture than docs.
    pub fn publish(&self) -> Check {
        let text = format!("{}\n\n{}\n", machine(), self.markdown);
        print!("{text}");
        let source = PathBuf::from(std::env::var_os("RSRUN_SOURCE").unwrap_or_else(|| ".".into()));
        let results = source.join("target/results");
        fs::create_dir_all(&results)?;
        fs::write(results.join(self.name).with_extension("md"), text)?;
        if let Some((file, svg)) = &self.chart {
            let charts = std::env::var_os("RSRUN_BENCH_CHARTS")
                .map_or_else(|| source.join("docs"), PathBuf::from);
            fs::create_dir_all(&charts)?;
            fs::write(charts.join(file), svg)?;
            println!("\nwritten: {}", charts.join(file).display());
        }
        Ok(())
    }
}

/// Kernel, processors, load and time, as hack/bench.sh found them when it began.
pub fn machine() -> String {
    std::env::var("RSRUN_BENCH_MACHINE").unwrap_or_else(|_| "an undescribed machine".into())
}
