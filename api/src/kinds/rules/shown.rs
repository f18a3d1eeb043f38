//! How upstream shows whole structs in error texts: with the names and order of its internal Go types, told by
//! tables of
//! (Go name, field, shape) that stand with the kinds (upstream: `%v` and `cmp.Diff`).

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::field;
use Shape::{Any, Embedded, Flag, Inline, List, Number, Pointer, Struct, Text};

/// How a field is shown when it is unset, and what it holds otherwise.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// `null` when unset, else as it is.
    Any,
    /// `""` when unset.
    Text,
    /// `0` when unset.
    Number,
    /// `false` when unset.
    Flag,
    /// A struct that is always there.
    Struct(Table),
    /// A struct or `null`.
    Pointer(Table),
    /// A list of structs or `null`.
    List(Table),
    /// Fields of the enclosing object, gathered in a struct.
    Inline(Table),
    /// The fields of an embedded struct, which stand among the enclosing ones.
    Embedded(Table),
}

pub(crate) type Table = &'static [(&'static str, &'static str, Shape)];

/// A struct in which Go shows the metadata inline, before its spec.
pub(crate) fn with_metadata(metadata: Option<&Map<String, Value>>, spec: Shown) -> Shown {
    let known = metadata.map(field::metadata_in_go_order).unwrap_or_default().into_iter();
    let mut fields: Vec<_> = known.map(|(key, value)| (key.clone(), Shown::Leaf(value.clone()))).collect();
    fields.push(("Spec".to_owned(), spec));
    Shown::Struct(fields)
}

/// A struct as Go shows it, in the order of the Go type.
pub(crate) enum Shown {
    Leaf(Value),
    List(Vec<Shown>),
    Struct(Vec<(String, Shown)>),
}

impl Shown {
    /// A struct of these fields, for types that are shown whole in one place only.
    pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Self {
        Self::Struct(fields.into_iter().map(|(name, value)| (name.to_owned(), Self::Leaf(value))).collect())
    }

    /// A struct of these fields, some of them structs themselves.
    pub(crate) fn nested(fields: Vec<(&str, Shown)>) -> Self {
        Self::Struct(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A struct by its table.
    pub(crate) fn of(value: Option<&Value>, table: Table) -> Self {
        let mut fields = Vec::with_capacity(table.len());
        for (name, key, shape) in table {
            match (shape, Self::field(value, key, *shape)) {
                (Embedded(_), Self::Struct(embedded)) => fields.extend(embedded),
                (_, shown) => fields.push(((*name).to_owned(), shown)),
            }
        }
        Self::Struct(fields)
    }

    /// As [`Self::of`]; `null` for nothing.
    pub(crate) fn or_null(value: Option<&Value>, table: Table) -> Self {
        match value.filter(|value| !value.is_null()) {
            Some(value) => Self::of(Some(value), table),
            None => Self::Leaf(Value::Null),
        }
    }

    fn field(parent: Option<&Value>, key: &str, shape: Shape) -> Self {
        if let Inline(table) | Embedded(table) = shape {
            return Self::of(parent, table);
        }
        let value = key.split('/').try_fold(parent.unwrap_or(&Value::Null), |at, step| at.get(step));
        let value = value.filter(|value| !value.is_null());
        match (shape, value) {
            (Struct(table), value) => Self::of(value, table),
            (Pointer(table), Some(value)) => Self::of(Some(value), table),
            (List(table), Some(Value::Array(list))) => {
                Self::List(list.iter().map(|one| Self::of(Some(one), table)).collect())
            }
            (Any | Text | Number | Flag, Some(value)) => Self::Leaf(value.clone()),
            (Text, None) => Self::Leaf("".into()),
            (Number, None) => Self::Leaf(0.into()),
            (Flag, None) => Self::Leaf(false.into()),
            _ => Self::Leaf(Value::Null),
        }
    }

    /// On one line, as error texts show values.
    pub(crate) fn compact(&self) -> String {
        match self {
            Self::Leaf(value) => field::show(value),
            Self::List(list) => format!("[{}]", list.iter().map(Self::compact).collect::<Vec<_>>().join(",")),
            Self::Struct(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), value.compact()))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }

    /// On many lines, indented by one blank a level.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.write(0, String::new(), "", &mut lines);
        lines
    }

    fn write(&self, depth: usize, name: String, end: &str, lines: &mut Vec<String>) {
        let indent = " ".repeat(depth);
        match self {
            Self::Leaf(Value::Object(map)) if !map.is_empty() => {
                let fields = field::in_go_order(map).into_iter();
                let fields = fields.map(|(key, value)| (key.clone(), Self::Leaf(value.clone()))).collect();
                Self::Struct(fields).write(depth, name, end, lines);
            }
            Self::Leaf(Value::Array(list)) if !list.is_empty() => {
                Self::List(list.iter().cloned().map(Self::Leaf).collect()).write(depth, name, end, lines);
            }
            Self::Leaf(value) => lines.push(format!("{indent}{name}{value}{end}")),
            Self::List(list) => {
                lines.push(format!("{indent}{name}["));
                for (at, one) in list.iter().enumerate() {
                    one.write(depth + 1, String::new(), if at + 1 < list.len() { "," } else { "" }, lines);
                }
                lines.push(format!("{indent}]{end}"));
            }
            Self::Struct(fields) => {
                lines.push(format!("{indent}{name}{{"));
                for (at, (key, value)) in fields.iter().enumerate() {
                    let name = format!("{}: ", Value::from(key.as_str()));
                    value.write(depth + 1, name, if at + 1 < fields.len() { "," } else { "" }, lines);
                }
                lines.push(format!("{indent}}}{end}"));
            }
        }
    }
}

/// How many unchanged lines stand around a change.
const CONTEXT: usize = 3;

/// What differs between two structs, as a unified diff of their lines.
pub(crate) fn difference(old: &Shown, new: &Shown) -> String {
    let (old, new) = (old.lines(), new.lines());
    let edits = edits(&old, &new);
    let mut text = String::new();
    let mut at = 0;
    while let Some(first) = (at..edits.len()).find(|index| edits[*index].0 != ' ') {
        let start = first.saturating_sub(CONTEXT).max(at);
        let mut last = first;
        let mut end = first + 1;
        while end < edits.len() && end <= last + 2 * CONTEXT {
            if edits[end].0 != ' ' {
                last = end;
            }
            end += 1;
        }
        let end = (last + CONTEXT + 1).min(edits.len());
        write_hunk(&edits, start, end, &mut text);
        at = end;
    }
    text
}

fn write_hunk(edits: &[(char, &str)], start: usize, end: usize, text: &mut String) {
    let count = |range: &[(char, &str)], skip: char| range.iter().filter(|(kind, _)| *kind != skip).count();
    let (before, hunk) = (&edits[..start], &edits[start..end]);
    let _ = writeln!(
        text,
        "@@ -{},{} +{},{} @@",
        count(before, '+') + 1,
        count(hunk, '+'),
        count(before, '-') + 1,
        count(hunk, '-'),
    );
    for (kind, line) in hunk {
        let _ = writeln!(text, "{kind}{line}");
    }
}

/// The shortest way from one list of lines to the other: `' '` keeps, `'-'` removes, `'+'` adds.
fn edits<'a>(old: &'a [String], new: &'a [String]) -> Vec<(char, &'a str)> {
    let same_start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let same_end =
        old[same_start..].iter().rev().zip(new[same_start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[same_start..old.len() - same_end], &new[same_start..new.len() - same_end]);
    let mut edits: Vec<_> = old[..same_start].iter().map(|line| (' ', line.as_str())).collect();
    // Beyond this size a table of all pairs costs too much: everything is shown as replaced.
    if a.len().saturating_mul(b.len()) > 4_000_000 {
        edits.extend(a.iter().map(|line| ('-', line.as_str())));
        edits.extend(b.iter().map(|line| ('+', line.as_str())));
    } else {
        align(a, b, &mut edits);
    }
    edits.extend(old[old.len() - same_end..].iter().map(|line| (' ', line.as_str())));
    edits
}

fn align<'a>(a: &'a [String], b: &'a [String], edits: &mut Vec<(char, &'a str)>) {
    let width = b.len() + 1;
    let mut common = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            edits.push((' ', &a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            edits.push(('-', &a[i]));
            i += 1;
        } else {
            edits.push(('+', &b[j]));
            j += 1;
        }
    }
}
