//! Finding recordings of the reference server, and making their cases concrete.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The recorded cases of the files whose name `wanted` accepts, or `None` after saying that there are none.
pub(crate) fn cases(wanted: impl Fn(&str) -> bool) -> Option<Vec<Value>> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let directory = std::env::var_os("CORACLE_REFERENCE").map_or_else(default, PathBuf::from).join("golden/cases");
    if !directory.is_dir() {
        eprintln!("SKIP: no recordings at {} (set CORACLE_REFERENCE)", directory.display());
        return None;
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let named = |path: &PathBuf| path.file_stem().and_then(|name| name.to_str()).is_some_and(&wanted);
    let read = |path: PathBuf| {
        let recording: Value = serde_json::from_str(&fs::read_to_string(path).expect("a recording")).expect("JSON");
        recording["cases"].as_array().expect("cases").iter().map(concrete).collect::<Vec<_>>()
    };
    Some(files.into_iter().filter(named).flat_map(read).collect())
}

/// A case with its variables replaced by their values, and placeholders of times and ports by such.
fn concrete(case: &Value) -> Value {
    let mut text = case.to_string();
    text = text.replace("<<time>>", "2001-01-01T00:00:00Z").replace("<<microtime>>", "2001-01-01T00:00:00.000000Z");
    for port in 1..10 {
        let (placeholder, number) = (format!("<<nodePort:{port}>>"), format!("{}", 30_000 + port));
        text = text.replace(&format!("\"{placeholder}\""), &number).replace(&placeholder, &number);
    }
    for (name, value) in case["vars"].as_object().into_iter().flatten() {
        text = text.replace(&format!("${{{name}}}"), value.as_str().unwrap_or(""));
    }
    serde_json::from_str(&text).expect("still JSON")
}
