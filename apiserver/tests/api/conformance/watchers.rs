//! Watches of ConfigMaps: which events come, in which order, from where on.

use serde_json::{Value, json};

use super::start;
use crate::client::{Client, Events, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, label: &str, mutation: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"watch": label}},
        "data": {"mutation": mutation.to_string()}})
}

async fn write(client: &Client, object: &Value) -> Value {
    let path = format!("{MAPS}/{}", object["metadata"]["name"].as_str().unwrap());
    let (status, answer) = client.put(&path, object).await;
    if status == 404 { expect(client.post(MAPS, object).await, 201) } else { expect((status, answer), 200) }
}

async fn delete(client: &Client, name: &str) {
    expect(client.delete(&format!("{MAPS}/{name}")).await, 200);
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

async fn watch_labels(client: &Client, labels: &str) -> Events {
    client.watch(&format!("{MAPS}?watch=1&labelSelector=watch+in+%28{labels}%29")).await
}

/// Asserts the next event: its type, its object's name and `data.mutation`.
async fn assert_next(events: &mut Events, kind: &str, name: &str, mutation: u32) {
    let event = events.soon().await.expect("the watch goes on");
    let object = &event["object"];
    let told = (&event["type"], &object["metadata"]["name"], &object["data"]["mutation"]);
    assert_eq!(told, (&json!(kind), &json!(name), &json!(mutation.to_string())), "{event}");
}

/// Conformance: [sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]
#[tokio::test]
async fn watchers_see_what_their_label_selects() {
    let (_server, client) = start().await;
    let mut a = watch_labels(&client, "a").await;
    let mut b = watch_labels(&client, "b").await;
    let mut both = watch_labels(&client, "a%2Cb").await;
    for mutation in 0..3 {
        write(&client, &map("of-a", "a", mutation)).await;
    }
    delete(&client, "of-a").await;
    write(&client, &map("of-b", "b", 0)).await;
    delete(&client, "of-b").await;
    let of_a = [("ADDED", 0), ("MODIFIED", 1), ("MODIFIED", 2), ("DELETED", 2)];
    let of_b = [("ADDED", 0), ("DELETED", 0)];
    for (kind, mutation) in of_a {
        assert_next(&mut a, kind, "of-a", mutation).await;
        assert_next(&mut both, kind, "of-a", mutation).await;
    }
    for (kind, mutation) in of_b {
        assert_next(&mut b, kind, "of-b", mutation).await;
        assert_next(&mut both, kind, "of-b", mutation).await;
    }
    // Nothing else came: what follows is the very next event of each.
    write(&client, &map("end", "a", 0)).await;
    write(&client, &map("end", "b", 1)).await;
    assert_next(&mut a, "ADDED", "end", 0).await;
    assert_next(&mut b, "ADDED", "end", 1).await;
}

/// Conformance: [sig-api-machinery] Watchers should be able to start watching from a specific resource version [Conformance]
#[tokio::test]
async fn a_watch_starts_after_the_version_of_any_answer() {
    let (_server, client) = start().await;
    write(&client, &map("m", "a", 0)).await;
    let first = write(&client, &map("m", "a", 1)).await;
    write(&client, &map("m", "a", 2)).await;
    delete(&client, "m").await;
    let mut events = client.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&first))).await;
    assert_next(&mut events, "MODIFIED", "m", 2).await;
    assert_next(&mut events, "DELETED", "m", 2).await;
}

/// Conformance: [sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch [Conformance]
#[tokio::test]
async fn a_watch_goes_on_where_another_was_closed() {
    let (_server, client) = start().await;
    let mut events = watch_labels(&client, "a").await;
    write(&client, &map("m", "a", 0)).await;
    write(&client, &map("m", "a", 1)).await;
    assert_next(&mut events, "ADDED", "m", 0).await;
    let last = events.soon().await.unwrap();
    drop(events);
    write(&client, &map("m", "a", 2)).await;
    delete(&client, "m").await;
    let path = format!("{MAPS}?watch=1&labelSelector=watch%3Da&resourceVersion={}", version(&last["object"]));
    let mut events = client.watch(&path).await;
    assert_next(&mut events, "MODIFIED", "m", 2).await;
    assert_next(&mut events, "DELETED", "m", 2).await;
}

/// Conformance: [sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector [Conformance]
#[tokio::test]
async fn an_object_that_is_no_longer_selected_is_deleted_for_the_watcher() {
    let (_server, client) = start().await;
    let mut events = watch_labels(&client, "a").await;
    write(&client, &map("m", "a", 0)).await;
    write(&client, &map("m", "a", 1)).await;
    write(&client, &map("m", "other", 2)).await;
    write(&client, &map("m", "other", 3)).await;
    write(&client, &map("m", "a", 4)).await;
    write(&client, &map("m", "a", 5)).await;
    delete(&client, "m").await;
    let seen = [("ADDED", 0), ("MODIFIED", 1), ("DELETED", 1), ("ADDED", 4), ("MODIFIED", 5), ("DELETED", 5)];
    for (kind, mutation) in seen {
        assert_next(&mut events, kind, "m", mutation).await;
    }
}

/// Conformance: [sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]
#[tokio::test]
async fn all_watchers_see_the_same_order() {
    const EVENTS: u32 = 100;
    let (_server, client) = start().await;
    let from = version(&write(&client, &map("m", "a", 0)).await);
    let writing = async {
        for mutation in 1..=EVENTS {
            write(&client, &map(&format!("m{}", mutation % 3), "a", mutation)).await;
            if mutation % 5 == 0 {
                client.delete(&format!("{MAPS}/m{}", mutation % 3)).await;
            }
        }
        write(&client, &map("end", "a", 0)).await;
    };
    let watching = async {
        let mut events = client.watch(&format!("{MAPS}?watch=1&resourceVersion={from}")).await;
        let (mut order, mut others) = (Vec::new(), Vec::new());
        loop {
            let event = events.soon().await.unwrap();
            order.push(version(&event["object"]));
            if event["object"]["metadata"]["name"] == "end" {
                return (order, others);
            }
            let path = format!("{MAPS}?watch=1&resourceVersion={}", order.last().unwrap());
            others.push(client.watch(&path).await);
        }
    };
    let ((), (order, others)) = tokio::join!(writing, watching);
    for (number, mut other) in others.into_iter().enumerate() {
        for expected in &order[number + 1..] {
            assert_eq!(&version(&other.soon().await.unwrap()["object"]), expected);
        }
    }
}
