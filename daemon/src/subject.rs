//! Whom a certificate names.

use x509_parser::x509::X509Name;

/// Common name and organisations of a certificate's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub common: String,
    pub organizations: Vec<String>,
}

/// Reads a subject, for everyone who takes a client certificate for somebody: of several common names the last counts, as
/// in Go, whose clients and CAs see the same. `None` when there is none, or when one of the names cannot be read: to go by
/// another one then would make it somebody else's certificate.
pub fn names_of(subject: &X509Name<'_>) -> Option<Names> {
    let commons = subject.iter_common_name().map(|name| name.as_str().ok());
    let commons: Vec<&str> = commons.collect::<Option<_>>()?;
    let organizations = subject.iter_organization().map(|name| name.as_str().ok().map(str::to_owned));
    let organizations = organizations.collect::<Option<_>>()?;
    let common = commons.last().filter(|name| !name.is_empty())?;
    Some(Names { common: (*common).to_owned(), organizations })
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer as _;

    use super::*;

    const COMMON: u8 = 3;
    const ORGANIZATION: u8 = 10;
    const UTF8: u8 = 0x0c;
    const BITS: u8 = 0x03;

    /// A subject in DER (RFC 5280, 4.1.2.4), one attribute in a set.
    fn names(attributes: &[(u8, u8, &str)]) -> Option<Names> {
        let wrap = |tag: u8, content: Vec<u8>| [vec![tag, u8::try_from(content.len()).unwrap()], content].concat();
        let sets = attributes.iter().map(|(kind, tag, text)| {
            let pair = [wrap(0x06, vec![0x55, 0x04, *kind]), wrap(*tag, text.as_bytes().to_vec())].concat();
            wrap(0x31, wrap(0x30, pair))
        });
        let der = wrap(0x30, sets.collect::<Vec<_>>().concat());
        names_of(&X509Name::from_der(&der).unwrap().1)
    }

    #[test]
    fn of_several_common_names_the_last_counts() {
        let found = names(&[(COMMON, UTF8, "first"), (ORGANIZATION, UTF8, "a"), (COMMON, UTF8, "last")]).unwrap();
        assert_eq!((found.common.as_str(), found.organizations), ("last", vec!["a".to_owned()]));
    }

    #[test]
    fn a_name_that_cannot_be_read_is_not_passed_over() {
        assert_eq!(names(&[(COMMON, UTF8, "a"), (COMMON, BITS, "\0b")]), None);
        assert_eq!(names(&[(COMMON, UTF8, "a"), (ORGANIZATION, BITS, "\0b")]), None);
        assert_eq!(names(&[(COMMON, UTF8, "a"), (COMMON, UTF8, "")]), None);
        assert_eq!(names(&[(ORGANIZATION, UTF8, "a")]), None);
    }
}
