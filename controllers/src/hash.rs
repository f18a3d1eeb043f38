//! Short, stable names for versions of a template (upstream: `controller.ComputeHash`).

use serde::Serialize;

/// Letters that cannot form words, as upstream's `rand.SafeEncodeString` uses.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name for this template; `collisions` makes another when a name was taken.
pub(crate) fn of_template(template: &impl Serialize, collisions: Option<i32>) -> serde_json::Result<String> {
    let mut bytes = serde_json::to_vec(&serde_json::to_value(template)?)?;
    if let Some(collisions) = collisions {
        bytes.extend(collisions.to_le_bytes());
    }
    Ok(encode(&fnv1a(&bytes).to_string()))
}

/// FNV-1a, 32 bits.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_keeps_its_name_and_a_collision_changes_it() {
        let name = |collisions| of_template(&serde_json::json!({ "spec": { "b": 1, "a": 2 } }), collisions).unwrap();
        assert_eq!(name(None), name(None));
        assert_ne!(name(None), name(Some(1)));
        assert!(name(None).len() <= 10 && name(None).bytes().all(|byte| LETTERS.contains(&byte)));
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
    }
}
