//! Sub-paths of volumes. Here only their text is judged: what they lead to, containers can change at any moment, so the
//! runtime resolves them when it mounts them, beneath the volume (upstream: pkg/volume/util/subpath).
use std::io;
use std::path::{Component, Path, PathBuf};

/// No path of a file is longer (PATH_MAX).
const MAX_LENGTH: usize = 4096;

/// The path below a volume that `sub_path` names, without dots; `None` for the volume itself.
///
/// # Errors
/// When it is not relative, climbs, or is longer than a path can be.
pub(crate) fn parse(sub_path: &str) -> io::Result<Option<PathBuf>> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("subPath {sub_path:?} {why}"));
    if sub_path.len() >= MAX_LENGTH || sub_path.contains('\0') {
        return Err(refuse("is no path"));
    }
    let mut path = PathBuf::new();
    for part in Path::new(sub_path).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err(refuse("must be relative and may not contain '..'")),
        }
    }
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_are_relative_and_never_climb() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(parse(text).unwrap(), expected.map(PathBuf::from));
        check("a/./b//c", Some("a/b/c"));
        check("..a", Some("..a"));
        check(".", None);
        let long = "a/".repeat(MAX_LENGTH);
        for text in ["..", "a/../b", "/etc", "../x", "a\0b", &long] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
