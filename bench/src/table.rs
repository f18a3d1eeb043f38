//! The one table that a run prints, and the same as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::budget::{Budget, Expectation};

/// One measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub measure: String,
    pub value: f64,
    pub unit: &'static str,
    pub expected: Option<Expectation>,
}

/// Everything a run has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What was measured, and how: lines above the table.
    pub about: Vec<String>,
    pub rows: Vec<Row>,
    /// What was skipped and why, and what must be known about a number: lines below the table.
    pub notes: Vec<String>,
}

impl Table {
    /// Adds a value.
    pub fn add(&mut self, measure: impl Into<String>, value: f64, unit: &'static str, expected: Option<Expectation>) {
        self.rows.push(Row { measure: measure.into(), value, unit, expected });
    }

    /// The table for programs.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "measure": row.measure, "value": row.value, "unit": row.unit,
                "budget": row.expected.map(|expected| budget(expected.budget)),
                "reference": row.expected.map(|expected| expected.reference),
                "met": row.expected.map(|expected| expected.budget.met(row.value)),
            })
        };
        json!({"about": self.about, "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "notes": self.notes})
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.about.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        if self.rows.is_empty() {
            return self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"));
        }
        let heading = ["measure", "value", "unit", "budget", "reference"].map(str::to_owned);
        let lines: Vec<[String; 5]> = std::iter::once(heading).chain(self.rows.iter().map(cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let [measure, value, unit, budget] = [0, 1, 2, 3].map(width);
        for line in &lines {
            let text = format!(
                "{:<measure$}  {:>value$}  {:<unit$}  {:<budget$}  {}",
                line[0], line[1], line[2], line[3], line[4]
            );
            writeln!(f, "{}", text.trim_end())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

fn cells(row: &Row) -> [String; 5] {
    let (limit, reference) =
        row.expected.map_or_else(Default::default, |expected| (budget(expected.budget), expected.reference));
    [row.measure.clone(), number(row.value), row.unit.to_owned(), limit, reference.to_owned()]
}

fn budget(budget: Budget) -> String {
    match budget {
        Budget::Least(least) => format!(">= {}", number(least)),
        Budget::Below(most) => format!("< {}", number(most)),
    }
}

/// Three figures or more, with commas between thousands.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        small if small > 0.0 && small < 10.0 && small.fract() != 0.0 => 2,
        middle if middle < 100.0 && middle.fract() != 0.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, fraction)| (whole, Some(fraction)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget;

    #[test]
    fn numbers_read_well_at_every_size() {
        let cases = [
            (0.0, "0"),
            (0.125, "0.12"),
            (5.0, "5"),
            (42.25, "42.2"),
            (593.4, "593"),
            (1060.0, "1,060"),
            (487_000.4, "487,000"),
            (-1234.0, "-1,234"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    fn table() -> Table {
        let mut table = Table { about: vec!["server: v1".to_owned()], ..Table::default() };
        table.add("creates", 1234.0, "/s", budget::CREATES);
        table.add("create p50", 1.5, "ms", None);
        table.notes.push("pods skipped".to_owned());
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let expected = "\
server: v1
measure     value  unit  budget     reference
creates     1,234  /s    >= 10,600  1,060/s
create p50   1.50  ms
note: pods skipped
";
        assert_eq!(table().to_string(), expected);
    }

    #[test]
    fn a_table_without_rows_has_no_heading() {
        let table = Table { notes: vec!["all skipped".to_owned()], ..Table::default() };
        assert_eq!(table.to_string(), "note: all skipped\n");
    }

    #[test]
    fn json_says_whether_a_budget_is_met() {
        let json = table().json();
        assert_eq!(
            json["rows"][0],
            json!({"measure": "creates", "value": 1234.0, "unit": "/s", "budget": ">= 10,600", "reference": "1,060/s", "met": false})
        );
        assert_eq!(json["rows"][1]["met"], Value::Null);
        assert_eq!(json["notes"][0], "pods skipped");
    }
}
