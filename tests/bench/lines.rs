//! How is growth drawn? Lines over a number of containers, in panels with a unit each.

use crate::chart::{TOP, WIDTH, picture, text};

/// Lines over a number that grows by powers of ten; both axes are logarithmic, so what does not grow is level.
pub struct Lines {
    /// Above all.
    pub title: String,
    /// Below the horizontal axis.
    pub over: String,
    /// Side by side.
    pub panels: Vec<Panel>,
}

/// One field of lines with a unit of its own.
pub struct Panel {
    /// With the unit.
    pub title: String,
    /// Each in the colour of its place.
    pub lines: Vec<Line>,
}

/// Points from left to right.
pub struct Line {
    /// In the legend below the panel.
    pub name: String,
    /// Where, how much.
    pub points: Vec<(f64, f64)>,
}

const HEIGHT: f64 = 230.0;

impl Lines {
    /// The picture.
    pub fn svg(&self) -> String {
        let room = (WIDTH - 20.0) / self.panels.len().max(1) as f64;
        let mut body = String::new();
        let mut most = 0;
        for (n, panel) in self.panels.iter().enumerate() {
            body += &panel.draw(20.0 + n as f64 * room, room - 30.0, &self.over);
            most = most.max(panel.lines.len());
        }
        let height = TOP + HEIGHT + 44.0 + 15.0 * most as f64;
        picture(&self.title, height, &body)
    }
}

impl Panel {
    fn draw(&self, x: f64, width: f64, over: &str) -> String {
        let points = || self.lines.iter().flat_map(|l| l.points.iter());
        let (first, last) = decades(points().map(|p| p.0));
        let (low, high) = decades(points().map(|p| p.1));
        let left = x + 34.0;
        let across = |v: f64| left + (v.log10() - first) / (last - first) * (x + width - left);
        let up = |v: f64| TOP + HEIGHT - (v.log10() - low) / (high - low) * HEIGHT;
        let mut body = text(x, TOP - 14.0, "head", &self.title);
        for power in low as i32..=high as i32 {
            let (value, y) = (10f64.powi(power), up(10f64.powi(power)));
            body += &format!(
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                x + width
            );
            body += &text(left - 5.0, y + 3.5, "name", &plain(value));
        }
        for power in first as i32..=last as i32 {
            let value = 10f64.powi(power);
            body += &text(across(value), TOP + HEIGHT + 15.0, "tick", &plain(value));
        }
        body += &text(left, TOP + HEIGHT + 30.0, "value", over);
        for (n, line) in self.lines.iter().enumerate() {
            let path: Vec<String> = line
                .points
                .iter()
                .map(|(at, value)| format!("{:.1},{:.1}", across(*at), up(*value)))
                .collect();
            body += &format!("<polyline class=\"l{n}\" points=\"{}\"/>", path.join(" "));
            for point in &path {
                let (px, py) = point.split_once(',').unwrap_or_default();
                body += &format!("<circle class=\"c{n}\" cx=\"{px}\" cy=\"{py}\" r=\"2.6\"/>");
            }
            let y = TOP + HEIGHT + 46.0 + 15.0 * n as f64;
            body += &format!(
                "<rect class=\"c{n}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\"/>",
                y - 9.0
            );
            body += &text(left + 15.0, y, "value", &line.name);
        }
        body
    }
}

/// The powers of ten around all values; at least one apart.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|v| *v > 0.0) {
        low = low.min(value.log10().floor());
        high = high.max(value.log10().ceil());
    }
    match low.is_finite() {
        true => (low, high.max(low + 1.0)),
        false => (0.0, 1.0),
    }
}

fn plain(value: f64) -> String {
    match value {
        v if v >= 1_000_000.0 => format!("{}M", v / 1e6),
        v if v >= 1_000.0 => format!("{},000", v / 1e3),
        v => format!("{v}"),
    }
}
