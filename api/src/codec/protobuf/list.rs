//! Lists that are written item by item: what goes before the items need only know how long they are.

use serde_json::Value;

use super::table::{Kind, Message, Shape, Table};
use super::wire::Writer;
use super::{Error, begin, encode, end, message_of, unknown_kind};
use crate::resource::split_api_version;

/// How the items of one kind of list are written.
#[derive(Clone, Copy)]
pub struct Items {
    list: &'static Message,
    item: &'static Message,
    number: u32,
}

impl Items {
    /// Of a kind of list (`PodList`).
    ///
    /// # Errors
    /// When the kind has no protobuf encoding, or is no list.
    pub fn of(api_version: &str, kind: &str) -> Result<Self, Error> {
        let (group, version) = split_api_version(api_version).unwrap_or_default();
        let unknown = || unknown_kind(api_version, kind);
        let list = message_of(group, version, kind).ok_or_else(unknown)?;
        let field = list.named("items").ok_or_else(unknown)?;
        match (field.shape, field.kind) {
            (Shape::List, Kind::Message(id)) => Ok(Self { list, item: Table::get().at(id), number: field.number }),
            _ => Err(unknown()),
        }
    }

    /// Writes one item behind what is there.
    pub fn write(&self, item: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut writer = Writer::behind(std::mem::take(out));
        let written = writer.nested(self.number, |out| encode::message(out, item, self.item, 1));
        *out = writer.into_bytes();
        written.map_err(|err| err.within("items"))
    }

    /// What goes before items of so many bytes: the envelope, and the fields of a list without items.
    pub fn head(&self, list: &Value, items: u64) -> Result<Vec<u8>, Error> {
        let text = |name: &str| list.get(name).and_then(Value::as_str).unwrap_or("");
        let mut fields = Writer::default();
        encode::message(&mut fields, list, self.list, 0)?;
        let fields = fields.into_bytes();
        let mut out = Writer::default();
        begin(&mut out, text("apiVersion"), text("kind"))?;
        out.tag(2, 2);
        out.varint(fields.len() as u64 + items);
        out.raw(&fields);
        Ok(out.into_bytes())
    }

    /// What goes behind the items.
    pub fn tail() -> Vec<u8> {
        let mut out = Writer::default();
        end(&mut out);
        out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_that_is_written_item_by_item_is_the_list_that_is_written_at_once() {
        let pod = |name: &str| json!({"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {"nodeName": "n"}});
        for items in [vec![], vec![pod("a")], vec![pod("a"), pod(&"b".repeat(200))]] {
            let mut list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"}});
            let kind = Items::of("v1", "PodList").unwrap();
            let mut written = Vec::new();
            items.iter().for_each(|item| kind.write(item, &mut written).unwrap());
            let whole = [kind.head(&list, written.len() as u64).unwrap(), written, Items::tail()].concat();
            list["items"] = items.into();
            assert_eq!(whole, super::super::encode(&list).unwrap());
        }
    }

    #[test]
    fn what_is_no_list_has_no_items() {
        assert!(Items::of("v1", "Pod").is_err() && Items::of("example.com/v1", "ThingList").is_err());
    }
}
