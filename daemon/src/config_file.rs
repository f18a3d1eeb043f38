//! Configuration files of components: YAML or JSON of one kind, read strictly. A field that nobody knows is an error
//! that names it; one that means nothing here is taken with a warning, one that asks for what is not there is refused.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}")]
    Yaml {
        path: PathBuf,
        #[source]
        source: serde_yaml::Error,
    },
    #[error("{path}: want apiVersion {version} and kind {kind}")]
    Kind { path: PathBuf, version: &'static str, kind: &'static str },
    #[error("{path}: {field}: {why}")]
    Refused { path: PathBuf, field: String, why: String },
    #[error("{path}")]
    Fields {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// A file that is read, but not yet understood.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl ConfigFile {
    /// Reads a file of this kind. A field that is given twice is an error, too.
    pub fn read(path: &Path, version: &'static str, kind: &'static str) -> Result<Self, ConfigFileError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigFileError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text, version, kind)
    }

    /// As [`Self::read`], of a text that has been read already; the path is for errors.
    pub fn parse(path: &Path, text: &str, version: &'static str, kind: &'static str) -> Result<Self, ConfigFileError> {
        let yaml = |source| ConfigFileError::Yaml { path: path.to_owned(), source };
        let tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(yaml)?;
        let tree =
            serde_json::to_value(tree).map_err(|source| ConfigFileError::Fields { path: path.to_owned(), source })?;
        Self::of(path, tree, version, kind)
    }

    /// A part of another file, which is one by itself.
    pub fn of(path: &Path, tree: Value, version: &'static str, kind: &'static str) -> Result<Self, ConfigFileError> {
        let wrong = || ConfigFileError::Kind { path: path.to_owned(), version, kind };
        let Value::Object(mut fields) = tree else { return Err(wrong()) };
        let given = (fields.remove("apiVersion"), fields.remove("kind"));
        if given != (Some(version.into()), Some(kind.into())) {
            return Err(wrong());
        }
        Ok(Self { path: path.to_owned(), fields })
    }

    /// Lays another file over this one: its fields count, lists as a whole, maps key by key, and `null` removes.
    pub fn overlay(&mut self, other: Self) {
        self.path = other.path;
        merge(&mut self.fields, other.fields);
    }

    /// Takes out the fields of a table and warns of those that say something. A table has one field a line:
    ///
    /// ```text
    /// syncFrequency                       means nothing here
    /// readOnlyPort = 0 ! there is none    is refused for this reason, unless its value is one of those (separated by |)
    /// ```
    ///
    /// Values that say nothing (zero, empty, false, null) are taken in any case.
    pub fn ignore(&mut self, table: &'static str) -> Result<(), ConfigFileError> {
        for line in table.lines() {
            let (rest, why) = line.split_once(" ! ").map_or((line, None), |(rest, why)| (rest, Some(why)));
            let (name, granted) = rest.split_once(" = ").unwrap_or((rest, ""));
            let Some(value) = self.fields.remove(name).filter(|value| !says_nothing(value)) else { continue };
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match why {
                Some(why) if !granted.split('|').any(|granted| granted == shown) => {
                    return Err(self.refused(name, format!("{shown} is not supported: {why}")));
                }
                Some(_) => {}
                None => tracing::warn!(file = %self.path.display(), "{name} means nothing here and is ignored"),
            }
        }
        Ok(())
    }

    /// Reads what is left. The type must refuse unknown fields.
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, ConfigFileError> {
        let Self { path, fields } = self;
        serde_json::from_value(Value::Object(fields)).map_err(|source| ConfigFileError::Fields { path, source })
    }

    /// An error about a field of this file.
    pub fn refused(&self, field: &str, why: impl Into<String>) -> ConfigFileError {
        ConfigFileError::Refused { path: self.path.clone(), field: field.to_owned(), why: why.into() }
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// As RFC 7386 merges.
fn merge(fields: &mut Map<String, Value>, other: Map<String, Value>) {
    for (key, value) in other {
        match (fields.get_mut(&key), value) {
            (_, Value::Null) => {
                fields.remove(&key);
            }
            (Some(Value::Object(mine)), Value::Object(theirs)) => merge(mine, theirs),
            (_, value) => {
                fields.insert(key, value);
            }
        }
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => matches!(text.as_str(), "" | "0" | "0s"),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(says_nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, serde::Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Example {
        max_pods: u16,
    }

    const TABLE: &str = "logging\nreadOnlyPort ! there is none\nruntime = own|ours ! it has its own";

    fn parse(fields: &str) -> Result<ConfigFile, ConfigFileError> {
        let text = format!("apiVersion: example/v1\nkind: Example\n{fields}");
        ConfigFile::parse(Path::new("x.yaml"), &text, "example/v1", "Example")
    }

    fn read(fields: &str) -> Result<Example, String> {
        let chain = |err: ConfigFileError| format!("{:#}", anyhow::Error::from(err));
        let mut file = parse(fields).map_err(chain)?;
        file.ignore(TABLE).map_err(chain)?;
        file.decode().map_err(chain)
    }

    #[test]
    fn what_a_table_speaks_of_need_not_be_known_otherwise() {
        let fields = "maxPods: 7\nlogging: {verbosity: 3}\nreadOnlyPort: 0\nruntime: ours";
        assert_eq!(read(fields), Ok(Example { max_pods: 7 }));
        assert_eq!(
            read("maxPods: 7\nruntime: theirs").unwrap_err(),
            "x.yaml: runtime: theirs is not supported: it has its own"
        );
        assert!(read("maxPods: 7\nreadOnlyPort: 10255").unwrap_err().contains("readOnlyPort: 10255"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, named) in [
            ("maxPodz: 7", "maxPodz"),
            ("maxPods: 7\nmaxPods: 8", "maxPods"),
            ("maxPods: many", "many"),
            ("kind: Other", "kind"),
            ("maxPods: [", "x.yaml"),
        ] {
            let err = read(fields).unwrap_err();
            assert!(err.contains(named), "{fields}: {err}");
        }
        let other = ConfigFile::parse(Path::new("x.yaml"), "apiVersion: v1\nkind: Pod", "example/v1", "Example");
        assert!(other.unwrap_err().to_string().contains("example/v1"));
        assert!(ConfigFile::read(Path::new("/nowhere/x"), "v", "k").unwrap_err().to_string().contains("/nowhere/x"));
    }

    #[test]
    fn files_are_laid_over_each_other() {
        let mut file = parse("maxPods: 7\nkeep: 1\nmap: {a: 1, b: {c: 2}}\nlist: [1, 2]\ngone: 1").unwrap();
        file.overlay(parse("maxPods: 8\nmap: {b: {d: 3}}\nlist: [3]\ngone: null").unwrap());
        let wanted = serde_json::json!({
            "maxPods": 8, "keep": 1, "map": {"a": 1, "b": {"c": 2, "d": 3}}, "list": [3],
        });
        assert_eq!(Value::Object(file.fields), wanted);
    }
}
