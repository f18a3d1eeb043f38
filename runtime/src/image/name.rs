//! Names of images (OCI distribution specification; short names as Docker reads them).

use oci_client::Reference;

/// The full name of an image: `busybox` is `docker.io/library/busybox:latest`. `None` for what is no name.
pub(super) fn normalize(name: &str) -> Option<String> {
    let reference: Reference = name.parse().ok()?;
    Some(reference.whole())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_docker_hub() {
        let check = |name: &str, full: &str| assert_eq!(normalize(name).as_deref(), Some(full));
        check("busybox", "docker.io/library/busybox:latest");
        check("a/b:1", "docker.io/a/b:1");
        check("localhost:5000/x", "localhost:5000/x:latest");
        assert_eq!(normalize("Upper Case"), None);
    }
}
