//! What the process itself takes, under the names that Prometheus clients use for it.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The unit of CPU times in /proc: USER_HZ, which is 100 on every architecture that Rust's Linux targets have but Alpha.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the numbers when metrics are asked for; what `/proc` does not tell is left out.
#[derive(Debug)]
pub(crate) struct Resources;

impl Collector for Resources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
            let counter = ConstCounter::new(seconds);
            let help = "Total user and system CPU time spent in seconds";
            counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?)?;
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status)) {
            let gauge = ConstGauge::new(bytes);
            let help = "Resident memory size in bytes";
            gauge.encode(encoder.encode_descriptor(
                "process_resident_memory_bytes",
                help,
                None,
                gauge.metric_type(),
            )?)?;
        }
        if let Some(open) = fs::read_dir("/proc/self/fd").ok().and_then(|files| i64::try_from(files.count()).ok()) {
            let gauge = ConstGauge::new(open);
            let help = "Number of open file descriptors";
            gauge.encode(encoder.encode_descriptor("process_open_fds", help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// `utime` and `stime` of proc_pid_stat(5), fields 14 and 15; the name in field 2 may hold anything, a `)` too.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// `VmRSS` of proc_pid_status(5).
fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_beside_odd_names() {
        let stat = "1 (a ) b) S 1 1 1 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 5";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    12 kB\n"), Some(12 * 1024));
        assert_eq!((cpu_seconds(""), resident_bytes("")), (None, None));
    }

    #[test]
    fn every_process_has_metrics() {
        let metrics = crate::Metrics::default();
        metrics.register(|registry| registry.register_collector(Box::new(Resources)));
        let text = metrics.encode();
        for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
        }
    }
}
