//! What a kubelet says at one moment (`/metrics/resource`), read line by line as it comes, within bounds.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::text::{self, Series};

/// A longer line is none of a kubelet's.
const LINE: usize = 8 * 1024;
/// More containers does no node have.
const CONTAINERS: usize = 16 * 1024;

/// Counters of a node or a container at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Milliseconds since the epoch, by the node's clock.
    pub(super) at: i64,
    /// Nanoseconds of one core.
    pub(super) cpu: u64,
    /// Bytes of the working set.
    pub(super) memory: u64,
    /// When it began to count, in milliseconds since the epoch, if that is known.
    pub(super) began: Option<i64>,
}

/// Containers by their names.
pub(super) type Containers = HashMap<Box<str>, Point>;

/// Everything that a kubelet said.
#[derive(Debug)]
pub(super) struct Sample {
    taken: Instant,
    pub(super) node: Option<Point>,
    /// By namespace and name.
    pub(super) pods: HashMap<(Box<str>, Box<str>), Containers>,
}

impl Sample {
    /// Whether it was taken no longer ago.
    pub(super) fn is_within(&self, age: Duration) -> bool {
        self.taken.elapsed() < age
    }
}

/// Why a text is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("a line of more than {LINE} bytes")]
    Line,
    #[error("more than {CONTAINERS} containers")]
    Containers,
}

/// What is known of a container or node while lines come.
#[derive(Default)]
struct Partial {
    cpu: Option<(f64, Option<i64>)>,
    memory: Option<f64>,
    began: Option<f64>,
}

/// Namespace and name of a pod, and the container's own.
type ContainerName = (Box<str>, Box<str>, Box<str>);

/// Reads a text piece by piece.
pub(super) struct Reader {
    taken: Instant,
    now: i64,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
    node: Partial,
    containers: HashMap<ContainerName, Partial>,
}

impl Reader {
    /// Figures that say no time are of `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        let (node, containers) = (Partial::default(), HashMap::new());
        Self { taken: Instant::now(), now: now.as_millisecond(), rest: Vec::new(), node, containers }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<(), Refused> {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&piece[..end], &piece[end + 1..]);
            piece = after;
            if self.rest.is_empty() {
                self.line(line)?;
                continue;
            }
            let mut whole = std::mem::take(&mut self.rest);
            whole.extend_from_slice(line);
            self.line(&whole)?;
        }
        if self.rest.len() + piece.len() > LINE {
            return Err(Refused::Line);
        }
        self.rest.extend_from_slice(piece);
        Ok(())
    }

    /// All that was said. What has no end of line may not be whole, and is left out.
    pub(super) fn finish(self) -> Sample {
        let mut pods: HashMap<(Box<str>, Box<str>), Containers> = HashMap::new();
        for ((namespace, pod, name), partial) in self.containers {
            if let Some(point) = partial.point(self.now) {
                pods.entry((namespace, pod)).or_default().insert(name, point);
            }
        }
        Sample { taken: self.taken, node: self.node.point(self.now), pods }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Refused> {
        if line.len() > LINE {
            return Err(Refused::Line);
        }
        let Ok(line) = std::str::from_utf8(line) else { return Ok(()) };
        if !text::name(line).is_some_and(|name| name.starts_with("container_") || name.starts_with("node_")) {
            return Ok(());
        }
        text::series(line).map_or(Ok(()), |series| self.note(series))
    }

    /// Notes a figure; of several of the same thing the last counts.
    fn note(&mut self, series: Series<'_>) -> Result<(), Refused> {
        let Series { name, value, at, .. } = series;
        match name {
            "node_cpu_usage_seconds_total" => self.node.cpu = Some((value, at)),
            "node_memory_working_set_bytes" => self.node.memory = Some(value),
            "container_cpu_usage_seconds_total" => self.container(series)?.cpu = Some((value, at)),
            "container_memory_working_set_bytes" => self.container(series)?.memory = Some(value),
            "container_start_time_seconds" => self.container(series)?.began = Some(value),
            _ => {}
        }
        Ok(())
    }

    fn container(&mut self, series: Series<'_>) -> Result<&mut Partial, Refused> {
        if self.containers.len() >= CONTAINERS {
            return Err(Refused::Containers);
        }
        let boxed = |text: std::borrow::Cow<'_, str>| text.into_owned().into_boxed_str();
        let key = (boxed(series.namespace), boxed(series.pod), boxed(series.container));
        Ok(self.containers.entry(key).or_default())
    }
}

impl Partial {
    /// The whole, if all was said that is needed, of a time that there can be.
    fn point(&self, now: i64) -> Option<Point> {
        let ((cpu, at), memory) = (self.cpu?, self.memory?);
        let at = at.unwrap_or(now);
        Timestamp::from_millisecond(at).ok()?;
        let began = self.began.map(|began| (began * 1e3) as i64);
        Some(Point { at, cpu: (cpu * 1e9).round() as u64, memory: memory as u64, began })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> Result<Sample, Refused> {
        let mut reader = Reader::new(Timestamp::from_millisecond(9_000).unwrap());
        pieces.iter().try_for_each(|piece| reader.take(piece.as_bytes()))?;
        Ok(reader.finish())
    }

    fn container(sample: &Sample) -> Option<Point> {
        sample.pods.get(&("n".into(), "p".into()))?.get("c").copied()
    }

    const CPU: &str = "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"}";
    const MEMORY: &str = "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"}";
    const BEGAN: &str = "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"}";

    #[test]
    fn figures_are_put_together_wherever_the_pieces_end() {
        let text = format!(
            "# TYPE x gauge\n{CPU} 1.5 5000\n{MEMORY} 4096 5000\n{BEGAN} 2.5\nother 1\n\
             node_cpu_usage_seconds_total 7\nnode_memory_working_set_bytes 8192\n"
        );
        let expected = Some(Point { at: 5_000, cpu: 1_500_000_000, memory: 4096, began: Some(2_500) });
        for size in [1, 7, 1000] {
            let pieces: Vec<&str> =
                text.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            let sample = read(&pieces).unwrap();
            assert_eq!(container(&sample), expected);
            assert_eq!(sample.node, Some(Point { at: 9_000, cpu: 7_000_000_000, memory: 8192, began: None }));
        }
    }

    #[test]
    fn of_the_same_figure_the_last_counts_and_half_a_container_is_none() {
        let twice = read(&[&format!("{CPU} 1 1\n{CPU} 2 2\n{MEMORY} 3\n")]).unwrap();
        assert_eq!(container(&twice).map(|point| (point.cpu, point.at)), Some((2_000_000_000, 2)));
        assert_eq!(container(&read(&[&format!("{CPU} 1\n")]).unwrap()), None);
        assert_eq!(container(&read(&[&format!("{CPU} 1\n{MEMORY} 3")]).unwrap()), None, "a line without an end");
        let never = format!("{CPU} 1 {}\n{MEMORY} 3\n", i64::MAX);
        assert_eq!(container(&read(&[&never]).unwrap()), None, "a time that cannot be");
        let huge = read(&[&format!("{CPU} 1e300\n{MEMORY} 1e300\n{BEGAN} 1e300\n")]).unwrap();
        assert_eq!(container(&huge).map(|point| (point.cpu, point.began)), Some((u64::MAX, Some(i64::MAX))));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let long = "x".repeat(LINE + 1);
        assert!(matches!(read(&[&long]), Err(Refused::Line)));
        assert!(matches!(read(&["a", &long, "\n"]), Err(Refused::Line)));
        let many = |name: usize| format!("container_start_time_seconds{{container=\"{name}\"}} 1\n");
        let many: String = (0..=CONTAINERS).map(many).collect();
        assert!(matches!(read(&[&many]), Err(Refused::Containers)));
    }
}
