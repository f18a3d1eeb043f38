//! The user who brought the cluster up with sudo: `kubectl` is theirs to run, and so they get a kubeconfig of their own.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, fchown, fstat, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Where `kubectl` keeps its own files, below the home directory.
const FOLDER: &str = ".kube";

/// A user other than root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invoker {
    uid: u32,
    gid: u32,
}

impl Invoker {
    /// Reads what sudo says in `SUDO_UID` and `SUDO_GID`; `None` without sudo, and when root itself ran it.
    pub fn from_sudo(uid: Option<&str>, gid: Option<&str>) -> Option<Self> {
        let (uid, gid) = (uid?.parse().ok()?, gid?.parse().ok()?);
        (uid != 0).then_some(Self { uid, gid })
    }

    /// Makes a file this user's.
    pub(crate) fn own(self, file: impl rustix::fd::AsFd) -> io::Result<()> {
        Ok(fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?)
    }

    /// The home directory, as `/etc/passwd` has it.
    pub(crate) fn home(self) -> Option<PathBuf> {
        home_in(&std::fs::read_to_string("/etc/passwd").ok()?, self.uid)
    }

    /// Writes a file of mode 0600 into `.kube` below `home`, and says where it is. Only folders that are the user's are
    /// entered: nothing is written where somebody else leads.
    pub(crate) fn write(self, home: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
        let open = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let at = openat(CWD, home, open, Mode::empty())?;
        self.check(&at)?;
        let made = match mkdirat(&at, FOLDER, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(err) => return Err(err.into()),
        };
        let folder = openat(&at, FOLDER, open | OFlags::NOFOLLOW, Mode::empty())?;
        if made {
            self.own(&folder)?;
        }
        self.check(&folder)?;
        let draft = format!(".{name}.draft");
        match unlinkat(&folder, &draft, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(err) => return Err(err.into()),
        }
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(openat(&folder, &draft, new, Mode::RUSR | Mode::WUSR)?);
        file.write_all(text.as_bytes())?;
        self.own(&file)?;
        fsync(&file)?;
        renameat(&folder, &draft, &folder, name)?;
        Ok(home.join(FOLDER).join(name))
    }

    fn check(self, folder: impl rustix::fd::AsFd) -> io::Result<()> {
        if fstat(folder)?.st_uid == self.uid { Ok(()) } else { Err(Errno::PERM.into()) }
    }
}

/// The sixth field of the line whose third is the user's number (passwd(5)).
fn home_in(passwd: &str, uid: u32) -> Option<PathBuf> {
    let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut of_user = line.filter(|fields| fields.get(2).is_some_and(|field| field.parse() == Ok(uid)));
    of_user.next()?.get(5).filter(|home| home.starts_with('/')).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn only_a_user_behind_sudo_is_an_invoker() {
        let check = |uid, gid, expected: bool| assert_eq!(Invoker::from_sudo(uid, gid).is_some(), expected, "{uid:?}");
        check(Some("1000"), Some("1000"), true);
        check(Some("0"), Some("0"), false);
        check(Some("x"), Some("1000"), false);
        check(None, None, false);
    }

    #[test]
    fn a_home_is_found_by_the_users_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000:,,,:/home/anna:/bin/bash\nbad:x:7\n";
        assert_eq!(home_in(passwd, 1000), Some("/home/anna".into()));
        assert_eq!(home_in(passwd, 7), None);
        assert_eq!(home_in(passwd, 100), None);
    }

    #[test]
    fn the_file_is_the_users_and_nobody_elses() {
        let home = tempfile::tempdir().unwrap();
        let here = home.path().metadata().unwrap();
        let user = Invoker { uid: here.uid(), gid: here.gid() };
        let path = user.write(home.path(), "c.kubeconfig", "one").unwrap();
        let path = user.write(home.path(), "c.kubeconfig", "two").map(|again| (path == again).then_some(path)).unwrap();
        let path = path.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        let file = path.metadata().unwrap();
        assert_eq!((file.permissions().mode() & 0o777, file.uid()), (0o600, user.uid));
        assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let stranger = Invoker { uid: user.uid + 1, ..user };
        assert!(stranger.write(home.path(), "c.kubeconfig", "three").is_err(), "this is no folder of theirs");
    }

    #[test]
    fn a_link_in_the_place_of_the_folder_is_not_followed() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let here = home.path().metadata().unwrap();
        let user = Invoker { uid: here.uid(), gid: here.gid() };
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join(FOLDER)).unwrap();
        assert!(user.write(home.path(), "c.kubeconfig", "one").is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
