//! Schemas and levels as they are now, and how seats are divided among the levels over time (upstream:
//! `util/flowcontrol.configController`).

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use api::strategy::User;
use http::HeaderValue;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::borrowing::{Limits, Wish, divide};
use super::config::{Distinguisher, LevelSpec, Response, Schema, complete_levels, in_order};
use super::demand::Demand;
use super::level::{Flow, Level};
use super::metrics::{LevelFigures, Metrics};
use super::{Class, width};
use crate::request::info::RequestInfo;
use crate::request::query::Query;
use crate::watch_cache::ResourceCache;

/// How often levels lend and borrow anew, while there are requests.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// Priority and fairness.
#[derive(Debug)]
pub(super) struct Fair {
    /// Seats of the server.
    seats: u32,
    schemas: RwLock<Arc<[Known]>>,
    levels: Mutex<Levels>,
    /// Nobody shall be able to choose whose queues are its own.
    hasher: RandomState,
    metrics: Metrics,
    timers: TaskTracker,
    is_loaded: AtomicBool,
    loaded: Notify,
}

/// A schema that requests are matched with.
#[derive(Debug)]
struct Known {
    schema: Schema,
    flow: Arc<Flow>,
    /// The most seats of one request.
    most: u32,
    schema_uid: HeaderValue,
    level_uid: HeaderValue,
}

#[derive(Debug)]
struct Levels {
    by_name: BTreeMap<String, Book>,
    adjusted: Instant,
}

/// What is known of a level.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) level: Arc<Level>,
    pub(super) spec: LevelSpec,
    pub(super) limits: Limits,
    pub(super) demand: Demand,
    /// It is configured no more, and goes when all its requests have gone.
    pub(super) is_leaving: bool,
}

impl Fair {
    /// With the levels and schemas that there must be.
    pub(super) fn new(seats: u32, timers: TaskTracker) -> Self {
        let fair = Self {
            seats,
            schemas: RwLock::new(Arc::new([])),
            levels: Mutex::new(Levels { by_name: BTreeMap::new(), adjusted: Instant::now() }),
            hasher: RandomState::new(),
            metrics: Metrics::new(),
            timers,
            is_loaded: AtomicBool::new(false),
            loaded: Notify::new(),
        };
        fair.configure(Vec::new(), Vec::new());
        fair
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    fn levels(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of each level.
    pub(super) fn each_level(&self, mut tell: impl FnMut(&Book)) {
        self.levels().by_name.values().for_each(&mut tell);
    }

    /// The first schema that matches.
    pub(super) fn classify(
        &self,
        user: &User,
        info: &RequestInfo,
        query: &Query,
        cache: Option<&ResourceCache>,
    ) -> Class {
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner).clone();
        let matches = |known: &&Known| known.schema.rules.iter().any(|rule| rule.matches(user, info));
        let catch_all = || schemas.iter().find(|known| known.schema.name == "catch-all");
        let known = schemas.iter().find(matches).or_else(catch_all).expect("the catch-all schema is always there");
        let distinguisher = match known.schema.distinguisher {
            Some(Distinguisher::ByUser) => user.name.as_str(),
            Some(Distinguisher::ByNamespace) => info.namespace.as_str(),
            None => "",
        };
        Class {
            flow: known.flow.clone(),
            hash: self.hasher.hash_one((known.schema.name.as_str(), distinguisher)),
            work: width::of(info, query, cache, known.most),
            schema_uid: known.schema_uid.clone(),
            level_uid: known.level_uid.clone(),
        }
    }

    /// Goes over to another configuration. Requests stay with the level that they came to.
    pub(super) fn configure(&self, schemas: Vec<Schema>, mut specs: Vec<LevelSpec>) {
        complete_levels(&mut specs);
        let now = Instant::now();
        let mut levels = self.levels();
        let known = &mut levels.by_name;
        known.retain(|name, book| {
            book.is_leaving = !specs.iter().any(|spec| spec.name == *name);
            let stays = !book.is_leaving || !book.level.is_idle();
            if !stays {
                self.metrics.forget_level(name);
            }
            stays
        });
        let leaving: u64 = known.values().filter(|book| book.is_leaving).map(|book| book.spec.shares).sum();
        let shares = leaving + specs.iter().map(|spec| spec.shares).sum::<u64>();
        for spec in &specs {
            let limits = self.limits(spec, shares);
            match known.get_mut(&spec.name) {
                Some(book) => {
                    book.level.set_response(spec.response);
                    (book.spec, book.limits) = (spec.clone(), limits);
                }
                None => {
                    let start = limits.nominal - (limits.nominal - limits.least) / 2;
                    let level = Arc::new(Level::new(spec, start, self.timers.clone()));
                    let demand = Demand::default();
                    let book = Book { level, spec: spec.clone(), limits, demand, is_leaving: false };
                    known.insert(spec.name.clone(), book);
                }
            }
        }
        for book in known.values_mut().filter(|book| book.is_leaving) {
            book.limits = self.limits(&book.spec, shares);
        }
        let schemas = in_order(schemas, &specs).into_iter().filter_map(|schema| {
            let book = known.get(&schema.level)?;
            Some(self.known(schema, book))
        });
        *self.schemas.write().unwrap_or_else(PoisonError::into_inner) = schemas.collect();
        self.adjust(&mut levels, now);
    }

    fn limits(&self, spec: &LevelSpec, shares: u64) -> Limits {
        Limits::of(self.seats, spec.shares, shares, spec.lendable_percent, spec.borrowing_percent)
    }

    fn known(&self, schema: Schema, book: &Book) -> Known {
        let uid = |uid: &str| HeaderValue::from_str(uid).unwrap_or_else(|_| HeaderValue::from_static(""));
        let hand = match book.spec.response {
            Response::Queue(queuing) => Some(queuing.hand),
            Response::Exempt | Response::Reject => None,
        };
        let metrics = self.metrics.of_flow(&book.spec.name, &schema.name);
        Known {
            flow: Arc::new(Flow { schema: schema.name.clone(), level: book.level.clone(), metrics }),
            most: width::most(book.limits.nominal, hand),
            schema_uid: uid(&schema.uid),
            level_uid: uid(&book.spec.uid),
            schema,
        }
    }

    /// There is something to do, so seats are worth being divided anew now and then.
    pub(super) fn note_load(&self) {
        if !self.is_loaded.load(Ordering::Relaxed) && !self.is_loaded.swap(true, Ordering::AcqRel) {
            self.loaded.notify_one();
        }
    }

    /// Divides the seats anew every now and then, while there are requests, until shutdown.
    pub(super) async fn adjust_under_load(&self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.loaded.notified() => {}
            }
            // What was wanted before is forgotten according to how long nobody has asked.
            self.adjust_now();
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(PERIOD) => {}
                }
                if !self.adjust_now() {
                    self.is_loaded.store(false, Ordering::Release);
                    break;
                }
            }
        }
    }

    /// Divides the seats anew; `false` if nobody wanted any.
    pub(super) fn adjust_now(&self) -> bool {
        let mut levels = self.levels();
        levels.by_name.retain(|name, book| {
            let stays = !book.is_leaving || !book.level.is_idle();
            if !stays {
                self.metrics.forget_level(name);
            }
            stays
        });
        self.adjust(&mut levels, Instant::now())
    }

    fn adjust(&self, levels: &mut Levels, now: Instant) -> bool {
        let periods = now.saturating_duration_since(levels.adjusted).as_secs_f64() / PERIOD.as_secs_f64();
        levels.adjusted = now;
        let mut left = levels.by_name.values().map(|book| f64::from(book.limits.nominal)).sum::<f64>();
        let mut wishes = Vec::new();
        let mut is_wanted = false;
        for book in levels.by_name.values_mut() {
            book.demand.update(book.level.demand(now), periods);
            let (least, wanted) = (f64::from(book.limits.least), book.demand.high_watermark());
            is_wanted |= wanted > 0.0;
            if book.spec.response == Response::Exempt {
                // What it takes, others do not have.
                left -= least.max(wanted);
                continue;
            }
            let at_least = least.max(wanted.min(book.limits.nominal.into()));
            let target = at_least.max(book.demand.smoothed);
            wishes.push(Wish { least: at_least, target, most: book.limits.most.into() });
        }
        let (given, fraction) = share_out(left, &wishes, levels);
        let mut limited = given.iter().zip(&wishes);
        for book in levels.by_name.values() {
            let (limit, target) = match book.spec.response {
                Response::Exempt => (f64::from(book.limits.least).max(book.demand.high_watermark()), 0.0),
                _ => limited.next().map_or((0.0, 0.0), |(given, wish)| (*given, wish.target)),
            };
            book.level.set_limit(limit.round().max(1.0) as u32);
            self.metrics.set_level(&book.spec.name, &figures(book, target));
        }
        self.metrics.set_fair_fraction(fraction);
        is_wanted
    }
}

/// What each level gets that is not exempt. When there is too little for what each should have at least, it is lessened,
/// down to what is never lent.
fn share_out(left: f64, wishes: &[Wish], levels: &Levels) -> (Vec<f64>, f64) {
    let books = levels.by_name.values().filter(|book| book.spec.response != Response::Exempt);
    let never_lent: Vec<f64> = books.map(|book| book.limits.least.into()).collect();
    let (lowest, low): (f64, f64) = (never_lent.iter().sum(), wishes.iter().map(|wish| wish.least).sum());
    if left > low {
        return divide(left, wishes);
    }
    let part = if left <= lowest || low <= lowest { 0.0 } else { (left - lowest) / (low - lowest) };
    let given = wishes.iter().zip(never_lent).map(|(wish, lowest)| lowest + part * (wish.least - lowest));
    (given.collect(), 0.0)
}

fn figures(book: &Book, target: f64) -> LevelFigures {
    let now = book.level.now();
    let Demand { observed, smoothed } = book.demand;
    LevelFigures {
        nominal: book.limits.nominal,
        least: book.limits.least,
        most: book.limits.most,
        current: now.limit,
        did_not_fit: now.did_not_fit,
        demand: [observed.most, observed.average, observed.deviation, smoothed, target],
    }
}
