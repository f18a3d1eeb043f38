//! Why a container could not be brought to run, in the words a pod's status shows (upstream: the errors of
//! pkg/kubelet/container and pkg/kubelet/images).
use std::fmt::Display;

/// A reason such as `ErrImagePull`, and details for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub(crate) struct Failure {
    /// Shown as the container's waiting reason.
    pub(crate) reason: &'static str,
    /// Shown as its waiting message.
    pub(crate) message: String,
    /// The image whose pull failed, or waits.
    pub(crate) image: Option<String>,
}

impl Failure {
    /// A failure in somebody else's words.
    pub(crate) fn new(reason: &'static str, message: impl Display) -> Self {
        Self { reason, message: message.to_string(), image: None }
    }

    /// A failure by an error, with its causes.
    pub(crate) fn by(reason: &'static str, err: &dyn std::error::Error) -> Self {
        Self::new(reason, chain(err))
    }

    /// The failure, of a pull of this image.
    pub(crate) fn of_image(self, name: &str) -> Self {
        Self { image: Some(name.to_owned()), ..self }
    }
}

/// What the API server said, or why it said nothing, in one line.
pub(crate) fn answer(err: &kube::Error) -> String {
    match err {
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
