//! Suites that this machine cannot run at all, whatever is installed: said aloud, and counted at the end of `./test`.

use crate::target;

/// Says why a suite is skipped, and leaves a note of it for the summary of `./test`.
pub fn skip(suite: &str, reason: &str) {
    eprintln!("SKIP: {suite}: {reason}");
    let folder = target().join("skipped");
    let noted =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(suite), format!("{reason}\n")));
    noted.unwrap_or_else(|err| panic!("note in {} that {suite} was skipped: {err}", folder.display()));
}
