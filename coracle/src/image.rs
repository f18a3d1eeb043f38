//! `coracle image`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use cluster::ImageRequest;
use daemon::LogArgs;
use runtime::PullProgress;

/// Work with the images on this machine.
#[derive(clap::Subcommand)]
pub(crate) enum Image {
    /// Import images from an archive, as `docker save` or as an OCI layout, compressed with gzip or zstd or not.
    Load {
        /// The archive; - reads it from standard input.
        archive: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// List images.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Pull an image from its registry, as for a pod.
    Pull {
        /// A name, with a tag or a digest.
        image: String,
        #[command(flatten)]
        place: Place,
    },
    /// Remove an image and all its names.
    Remove {
        /// A name, a digest or an id.
        image: String,
        /// Remove it although containers use it: they go on, and need it again when they start anew.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
pub(crate) struct Place {
    /// Where the cluster keeps everything.
    #[arg(long, default_value = "/var/lib/coracle")]
    data_dir: PathBuf,
}

impl Image {
    pub(crate) fn run(self) -> ExitCode {
        let quiet = LogArgs { filter: Some("warn".to_owned()), ..LogArgs::default() };
        daemon::task("coracle", &quiet, async {
            let (request, place) = match self {
                Self::Load { archive, place } => (ImageRequest::Load(readable(&archive)?), place),
                Self::Pull { image, place } => (ImageRequest::Pull(image), place),
                Self::List { place } => (ImageRequest::List, place),
                Self::Remove { image, force, place } => (ImageRequest::Remove { image, force }, place),
            };
            for image in cluster::images(&place.data_dir, request, tell).await.map_err(|err| named(&err))? {
                let names = image.tags.iter().chain(&image.digests).cloned().collect::<Vec<_>>().join(" ");
                println!("{}  {:>6.1} MB  {names}", image.id, image.size as f64 / 1e6);
            }
            Ok(())
        })
    }
}

/// The path by which the cluster's process opens an archive.
fn readable(archive: &Path) -> anyhow::Result<PathBuf> {
    if archive == Path::new("-") {
        ensure!(!std::io::stdin().is_terminal(), "an archive is expected on standard input: pipe it in");
        return Ok(standard_input().into());
    }
    let found = std::fs::metadata(archive).with_context(|| format!("open {}", archive.display()))?;
    ensure!(!found.is_dir(), "{} is a folder: an archive (a tar file) is expected", archive.display());
    std::path::absolute(archive).with_context(|| format!("find {}", archive.display()))
}

/// By which another process opens what this one reads.
fn standard_input() -> String {
    format!("/proc/{}/fd/0", std::process::id())
}

/// An error in the user's words: they have not named that path.
fn named(err: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!(format!("{err:#}").replace(&standard_input(), "standard input"))
}

/// Shows how far a pull is, on one line of a terminal.
fn tell(PullProgress { loaded, total }: PullProgress) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Nobody may be there to read it; the pull goes on all the same.
        let _unread = write!(out, "\r{:.1} of {:.1} MB ", loaded as f64 / 1e6, total as f64 / 1e6);
        let _unread = out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_archive_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let check = |path: &Path, words: &str| {
            let err = format!("{:#}", readable(path).unwrap_err());
            assert!(err.contains(words) && err.contains(&path.display().to_string()), "{err}");
        };
        check(folder.path(), "is a folder");
        check(&folder.path().join("gone.tar"), "No such file");
        let err = anyhow::anyhow!("read archive {}: broken", standard_input());
        assert_eq!(named(&err).to_string(), "read archive standard input: broken");
    }
}
