//! Static bearer tokens from a file (`--token-auth-file`): `token,user,uid,"group1,group2"` a line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use api::strategy::User;
use async_trait::async_trait;
use http::request::Parts;

use super::{Authenticator, Rejected, Reviewed, bearer};

/// Users by their static token.
pub struct TokenFile(HashMap<String, User>);

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read token file {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("token file {path}, line {line}: want token,user,uid and optionally \"group1,group2\"")]
    Line { path: PathBuf, line: usize },
}

impl TokenFile {
    /// Reads a token file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|line| Error::Line { path: path.to_owned(), line })
    }

    fn parse(text: &str) -> Result<Self, usize> {
        let mut users = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields = split_csv(line);
            let [token, name, uid, rest @ ..] = fields.as_slice() else { return Err(at + 1) };
            if token.is_empty() || name.is_empty() || rest.len() > 1 {
                return Err(at + 1);
            }
            let groups =
                rest.first().map(|list| list.split(',').filter(|g| !g.is_empty()).map(str::to_owned).collect());
            let user =
                User { name: name.clone(), uid: uid.clone(), groups: groups.unwrap_or_default(), extra: Vec::new() };
            users.insert(token.clone(), user);
        }
        Ok(Self(users))
    }
}

/// Splits at commas outside of double quotes.
fn split_csv(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("never empty").push(c),
        }
    }
    fields
}

#[async_trait]
impl Authenticator for TokenFile {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        Ok(bearer(request)?.and_then(|token| self.0.get(token.as_ref())).cloned())
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, Rejected> {
        Ok(self.0.get(token).map(|user| Reviewed { user: user.clone(), audiences: audiences.to_vec() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_quoted_and_bad_lines_are_named() {
        let file = TokenFile::parse("t,admin,1,\"system:masters,dev\"\n\n# x\nu,bob,2\n")
            .unwrap_or_else(|line| panic!("line {line}"));
        assert_eq!(file.0["t"].groups, ["system:masters", "dev"]);
        assert_eq!(file.0["u"].name, "bob");
        assert_eq!(TokenFile::parse("a,b,c\nonly-a-token").err(), Some(2));
    }
}
