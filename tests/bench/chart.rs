//! How are numbers drawn as bars? As SVG that is readable on light and on dark ground, without any crate.

use crate::report;

/// Groups of horizontal bars. A bar of length 1 is the same everywhere.
pub struct Bars {
    /// Above all.
    pub title: String,
    /// One colour for each.
    pub columns: Vec<String>,
    /// From top to bottom.
    pub groups: Vec<Group>,
}

/// One bar for each column that has one: its length, and what is written at its end.
pub struct Group {
    /// At the left.
    pub name: String,
    /// In the order of the columns.
    pub bars: Vec<Option<(f64, String)>>,
}

/// Of every picture.
pub const WIDTH: f64 = 860.0;
/// Where bars begin, and how much room their texts need at the right.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 11.0;
const GAP: f64 = 12.0;
/// Where what is below title and legend begins.
pub const TOP: f64 = 84.0;

impl Bars {
    /// The picture.
    pub fn svg(&self) -> String {
        let longest = self
            .groups
            .iter()
            .flat_map(|g| g.bars.iter().flatten())
            .fold(1.0, |longest: f64, (length, _)| longest.max(*length));
        let unit = (WIDTH - LEFT - RIGHT) / longest;
        let (mut y, mut body) = (TOP, String::new());
        for group in &self.groups {
            let begin = y;
            for (column, bar) in group.bars.iter().enumerate() {
                let Some((length, label)) = bar else {
                    continue;
                };
                let end = LEFT + length * unit;
                body += &format!(
                    "<rect class=\"c{column}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"1.5\"/>",
                    (end - LEFT).max(1.0),
                    BAR - 2.0,
                );
                body += &text(end + 4.0, y + 8.0, "value", label);
                y += BAR;
            }
            body += &text(LEFT - 8.0, (begin + y) / 2.0 + 2.5, "name", &group.name);
            y += GAP;
        }
        let one = LEFT + unit;
        body += &format!(
            "<line class=\"one\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            TOP - 6.0,
            y - GAP + 4.0
        );
        let legend = legend(&self.columns, 44.0);
        picture(&self.title, y + 8.0, &(legend + &body))
    }
}

/// What each colour is, in as many rows as it takes.
fn legend(columns: &[String], mut y: f64) -> String {
    let (mut x, mut body) = (20.0, String::new());
    for (n, title) in columns.iter().enumerate() {
        let width = 34.0 + 6.0 * title.chars().count() as f64;
        if x + width > WIDTH {
            (x, y) = (20.0, y + 16.0);
        }
        body += &format!(
            "<rect class=\"c{n}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\"/>",
            y - 9.0
        );
        body += &text(x + 14.0, y, "value", title);
        x += width;
    }
    body
}

/// Words at a place.
pub fn text(x: f64, y: f64, class: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>")
}

/// The frame: colours for both grounds, the title, and on what machine it was seen.
pub fn picture(title: &str, height: f64, body: &str) -> String {
    const STYLE: &str = "\
text{font:11px system-ui,sans-serif;fill:#1f2328}\
.title{font-size:14px;font-weight:600}.head{font-size:12px;font-weight:600}\
.name{text-anchor:end}.tick{text-anchor:middle}.below{font-size:10px;fill:#59636e}\
.c0{fill:#c4ccd4}.c1{fill:#8c98a4}.c2{fill:#3b82c4}.c3{fill:#d9480f}.c4{fill:#2f9e44}\
polyline{fill:none;stroke-width:1.8}\
.l0{stroke:#c4ccd4}.l1{stroke:#8c98a4}.l2{stroke:#3b82c4}.l3{stroke:#d9480f}.l4{stroke:#2f9e44}\
.grid{stroke:#d1d9e0;stroke-width:.6}.one{stroke:#3b82c4;stroke-width:1;stroke-dasharray:3 3}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.below{fill:#9198a1}.grid{stroke:#3d444d}\
.c0{fill:#4d5661}.c1{fill:#7d8894}.c2{fill:#58a6ff}.c3{fill:#ff8a4c}.c4{fill:#57c96c}\
.l0{stroke:#4d5661}.l1{stroke:#7d8894}.l2{stroke:#58a6ff}.l3{stroke:#ff8a4c}.l4{stroke:#57c96c}.one{stroke:#58a6ff}}";
    let height = height + 16.0;
    let (heading, below) = (
        text(20.0, 22.0, "title", title),
        text(20.0, height - 8.0, "below", &report::machine()),
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n{heading}\n{body}\n{below}\n</svg>\n",
        title.replace('&', "&amp;").replace('<', "&lt;")
    )
}
