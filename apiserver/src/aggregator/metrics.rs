//! Which APIServices are not available, by upstream's name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Named {
    name: String,
}

/// A gauge for each APIService with a Service: 1 while it is not available.
#[derive(Clone, Debug, Default)]
pub(super) struct Unavailable(Family<Named, Gauge>);

/// The gauge of one APIService; dropping it removes it.
pub(super) struct Watched {
    all: Unavailable,
    name: Named,
}

impl Unavailable {
    pub(super) fn register(metrics: &daemon::Metrics) -> Self {
        let all = Self::default();
        let help = "Gauge of APIServices which are marked as unavailable broken down by APIService name";
        metrics.register(|registry| registry.register("aggregator_unavailable_apiservice", help, all.0.clone()));
        all
    }

    pub(super) fn of(&self, name: &str) -> Watched {
        Watched { all: self.clone(), name: Named { name: name.to_owned() } }
    }
}

impl Watched {
    pub(super) fn set(&self, is_available: bool) {
        self.all.0.get_or_create(&self.name).set(i64::from(!is_available));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.all.0.remove(&self.name);
    }
}
