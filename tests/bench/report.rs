//! Rows of figures with the bars they should reach, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

/// Figures of one bench.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(skip)]
    name: &'static str,
    rows: Vec<Row>,
}

/// One figure of ours beside those of others.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Such as `tunnel.stream1`.
    pub(crate) id: String,
    /// Such as `Mbit/s`.
    pub(crate) unit: &'static str,
    /// Our figure.
    pub(crate) ours: f64,
    /// Figures of other programs in the same run, by their name.
    pub(crate) others: BTreeMap<&'static str, f64>,
    #[serde(skip)]
    bars: Vec<Bar>,
}

/// What a figure should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// Not more than this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// At least so many times the figure of another program.
    AtLeastTimes(f64, &'static str),
    /// At most so many times the figure of another program.
    AtMostTimes(f64, &'static str),
}

impl Report {
    /// Starts an empty report, which is written to `NAME.json`.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            rows: Vec::new(),
        }
    }

    /// Adds a figure; others and bars follow on the row.
    pub(crate) fn row(&mut self, id: impl Into<String>, unit: &'static str, ours: f64) -> &mut Row {
        self.rows.push(Row {
            id: id.into(),
            unit,
            ours,
            others: BTreeMap::new(),
            bars: Vec::new(),
        });
        self.rows.last_mut().expect("it was just added")
    }

    /// Whether a bar was missed.
    pub(crate) fn misses(&self) -> bool {
        self.rows
            .iter()
            .any(|row| row.bars.iter().any(|bar| !bar.reached(row)))
    }

    /// Writes the JSON file.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the package lies in the workspace");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
        let folder = target.join("bench");
        std::fs::create_dir_all(&folder)?;
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(folder.join(format!("{}.json", self.name)), text + "\n")?;
        Ok(())
    }
}

impl Row {
    /// Adds the figure of another program.
    pub(crate) fn beside(&mut self, other: &'static str, figure: f64) -> &mut Self {
        self.others.insert(other, figure);
        self
    }

    /// Adds what the figure should reach.
    pub(crate) fn bar(&mut self, bar: Bar) -> &mut Self {
        self.bars.push(bar);
        self
    }
}

impl Bar {
    /// A bar that compares with a program which was not measured is missed.
    fn reached(self, row: &Row) -> bool {
        let other = |name| row.others.get(name).copied().unwrap_or(f64::NAN);
        match self {
            Self::AtMost(limit) => row.ours <= limit,
            Self::Below(limit) => row.ours < limit,
            Self::AtLeastTimes(factor, name) => row.ours >= factor * other(name),
            Self::AtMostTimes(factor, name) => row.ours <= factor * other(name),
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::Below(limit) => write!(f, "< {limit}"),
            Self::AtLeastTimes(factor, name) => write!(f, "≥ {factor} × {name}"),
            Self::AtMostTimes(factor, name) => write!(f, "≤ {factor} × {name}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        let width = self.rows.iter().map(|row| row.id.len()).max().unwrap_or(0);
        for row in &self.rows {
            write!(f, "  {:width$}  {:>10} {:10}", row.id, figure(row.ours), row.unit)?;
            for (name, other) in &row.others {
                write!(
                    f,
                    "  {name} {} (ours {} ×)",
                    figure(*other),
                    figure(row.ours / other)
                )?;
            }
            for bar in &row.bars {
                let word = if bar.reached(row) { "reached" } else { "MISSED" };
                write!(f, "  [{bar}: {word}]")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Three significant digits are more than the machines are good for.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// The middle of several figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}
