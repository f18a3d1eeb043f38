//! `metadata.managedFields`: who owns which fields.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::set::FieldSet;

/// Updates of more managers than this share one entry per version, the oldest first.
const MAX_UPDATE_MANAGERS: usize = 10;

/// The manager of that shared entry.
const OLD_UPDATES: &str = "ancient-changes";

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else: create, update, patch.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ManagerId {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// Empty for applies: a manager that applies in another version has the same entry.
    api_version: String,
    pub(super) subresource: String,
}

impl ManagerId {
    pub(super) fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        let manager = if manager.is_empty() { "unknown" } else { manager };
        Self {
            manager: manager.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

/// As conflicts name a manager: `"a" with subresource "scale" using apps/v1`.
impl fmt::Display for ManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Update => write!(f, " using {}", self.api_version),
            Operation::Apply => Ok(()),
        }
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) set: FieldSet,
    pub(super) api_version: String,
    /// RFC 3339, as written.
    pub(super) time: Option<String>,
}

/// All managers of an object.
pub(super) type Managers = BTreeMap<ManagerId, Owner>;

/// Reads `managedFields`; an error when an entry is malformed.
pub(super) fn decode(entries: Option<&Value>) -> Result<Managers, String> {
    let mut managers = Managers::new();
    let entries = match entries {
        None | Some(Value::Null) => return Ok(managers),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err("metadata.managedFields is not a list".to_owned()),
    };
    for (index, entry) in entries.iter().enumerate() {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let bad = |why: &str| format!("metadata.managedFields[{index}]: {why}");
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            other => return Err(bad(&format!("unknown operation {other:?}"))),
        };
        if text("fieldsType") != "FieldsV1" {
            return Err(bad(&format!("unknown fieldsType {:?}", text("fieldsType"))));
        }
        let set = match entry.get("fieldsV1") {
            None | Some(Value::Null) => FieldSet::default(),
            Some(fields) => FieldSet::decode(fields).ok_or_else(|| bad("malformed fieldsV1"))?,
        };
        let id = ManagerId::new(text("manager"), operation, text("apiVersion"), text("subresource"));
        let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
        managers.insert(id, Owner { set, api_version: text("apiVersion").to_owned(), time });
    }
    Ok(managers)
}

/// Writes `managedFields`, ordered by operation, time, manager, version and subresource.
pub(super) fn encode(managers: &Managers) -> Value {
    let mut entries: Vec<(&ManagerId, &Owner)> = managers.iter().collect();
    entries.sort_by(|(a, a_owner), (b, b_owner)| {
        let order = |id: &ManagerId, owner: &Owner| (id.operation, seconds(owner.time.as_deref()));
        order(a, a_owner).cmp(&order(b, b_owner)).then_with(|| a.cmp(b))
    });
    entries.into_iter().map(|(id, owner)| encode_entry(id, owner)).collect::<Vec<_>>().into()
}

fn encode_entry(id: &ManagerId, owner: &Owner) -> Value {
    let mut entry = Map::new();
    entry.insert("manager".to_owned(), id.manager.as_str().into());
    entry.insert("operation".to_owned(), id.operation.as_str().into());
    entry.insert("apiVersion".to_owned(), owner.api_version.as_str().into());
    if let Some(time) = &owner.time {
        entry.insert("time".to_owned(), time.as_str().into());
    }
    entry.insert("fieldsType".to_owned(), json!("FieldsV1"));
    entry.insert("fieldsV1".to_owned(), owner.set.encode());
    if !id.subresource.is_empty() {
        entry.insert("subresource".to_owned(), id.subresource.as_str().into());
    }
    Value::Object(entry)
}

fn seconds(time: Option<&str>) -> i64 {
    time.and_then(|time| time.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second)
}

/// A time as `metav1.Time` prints it.
pub(super) fn show_time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Keeps the number of managers that update bounded: the oldest entries of a version become one.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<ManagerId> =
        managers.keys().filter(|id| id.operation == Operation::Update).cloned().collect();
    let mut count = updaters.len();
    if count <= MAX_UPDATE_MANAGERS {
        return;
    }
    updaters.sort_by_cached_key(|id| (seconds(managers.get(id).and_then(|owner| owner.time.as_deref())), id.clone()));
    let mut first_of_version: BTreeMap<String, ManagerId> = BTreeMap::new();
    for id in updaters {
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        let version = id.api_version.clone();
        let Some(first) = first_of_version.get(&version).cloned() else {
            first_of_version.insert(version, id);
            continue;
        };
        let bucket = ManagerId::new(OLD_UPDATES, Operation::Update, &version, "");
        if !managers.contains_key(&bucket)
            && let Some(owner) = managers.remove(&first)
        {
            managers.insert(bucket.clone(), owner);
        }
        if id == bucket {
            continue;
        }
        if let Some(old) = managers.remove(&id)
            && let Some(shared) = managers.get_mut(&bucket)
        {
            shared.set.absorb(old.set);
            shared.time = old.time;
            count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_a_round_trip_and_are_ordered() {
        let entry = |manager: &str, operation: &str, time: &str| json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}});
        let entries = json!([
            entry("b", "Update", "2001-01-01T00:00:00Z"),
            entry("z", "Apply", "2002-01-01T00:00:00Z"),
            entry("a", "Update", "2003-01-01T00:00:00Z"),
        ]);
        let encoded = encode(&decode(Some(&entries)).unwrap());
        let names: Vec<_> = encoded.as_array().unwrap().iter().map(|entry| entry["manager"].clone()).collect();
        assert_eq!(names, ["z", "b", "a"]);
        assert_eq!(encoded[1], entries[0]);
    }

    #[test]
    fn malformed_entries_are_refused() {
        for bad in [
            json!([{}]),
            json!([{"manager": "x", "operation": "Apply"}]),
            json!(1),
            json!([{"operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"q": {}}}]),
        ] {
            assert!(decode(Some(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn updates_of_many_managers_share_an_entry() {
        let mut managers = Managers::new();
        for n in 0..15 {
            let mut set = FieldSet::default();
            set.insert(&super::super::set::fields(&["data", &format!("k{n}")]));
            let owner = Owner { set, api_version: "v1".to_owned(), time: Some(format!("2001-01-01T00:00:{n:02}Z")) };
            managers.insert(ManagerId::new(&format!("m{n}"), Operation::Update, "v1", ""), owner);
            cap(&mut managers);
            assert!(managers.len() <= MAX_UPDATE_MANAGERS);
        }
        let shared = &managers[&ManagerId::new(OLD_UPDATES, Operation::Update, "v1", "")];
        assert_eq!(shared.set.paths().len(), 6);
    }
}
