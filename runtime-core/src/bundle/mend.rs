//! Where oci-spec's types differ from the specification, and what is changed in a document so that
//! they read it as it is meant.
//!
//! * A capability that is not known is to be ignored with a warning; the crate refuses it.
//! * `pids: {}` sets no limit; the crate reads the limit 0, which forbids every fork.
//! * Two scheduler flags have other names in the crate than in the specification.
//! * `process.user` may be left out and is root then; the crate wants it.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::plan::CAPABILITY_NAMES;

/// Mends a config.json.
pub(super) fn spec(document: &mut Value, warnings: &mut Vec<String>) {
    if let Some(value) = document.get_mut("process") {
        process(value, "/process", warnings);
    }
    if let Some(value) = document.pointer_mut("/linux/resources") {
        resources(value);
    }
}

/// Mends a process document, which stands at `place`.
pub(super) fn process(document: &mut Value, place: &str, warnings: &mut Vec<String>) {
    if let Some(Value::Object(sets)) = document.get_mut("capabilities") {
        for (name, set) in sets {
            if let Value::Array(set) = set {
                drop_unknown(set, &format!("{place}/capabilities/{name}"), warnings);
            }
        }
    }
    if let Some(Value::Array(flags)) = document.pointer_mut("/scheduler/flags") {
        flags.iter_mut().for_each(rename_flag);
    }
    if let Value::Object(fields) = document
        && fields.get("user").is_none_or(Value::is_null)
    {
        fields.insert("user".into(), Value::Object(Map::new()));
    }
}

/// Mends a resources document.
pub(super) fn resources(document: &mut Value) {
    let no_limit = |pids: &Value| {
        let limit = pids.as_object().map(|fields| fields.get("limit"));
        limit.is_some_and(|limit| limit.is_none_or(Value::is_null))
    };
    if let Value::Object(fields) = document
        && fields.get("pids").is_some_and(no_limit)
    {
        fields.remove("pids");
    }
}

fn drop_unknown(set: &mut Vec<Value>, place: &str, warnings: &mut Vec<String>) {
    set.retain(|name| {
        // What is no text at all is left for the typed reader to refuse.
        let Value::String(name) = name else {
            return true;
        };
        let upper = name.to_uppercase();
        let full = format!("CAP_{}", upper.trim_start_matches("CAP_"));
        let known = CAPABILITY_NAMES.contains(&full.as_str());
        if !known {
            let shown: String = name.chars().take(64).collect();
            warnings.push(format!("{place}: left out, unknown capability {shown:?}"));
        }
        known
    });
}

fn rename_flag(flag: &mut Value) {
    let name = match flag.as_str() {
        Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
        Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
        _ => return,
    };
    *flag = name.into();
}

/// The most values that a document may have: a tree takes up to 100 bytes for each, however short
/// its text.
pub(super) const MOST_VALUES: u32 = 400_000;

/// A document whose objects have no key twice.
pub(super) struct Unambiguous(pub(super) Value);

impl<'de> serde::Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let left = Cell::new(MOST_VALUES);
        Tree { left: &left }.deserialize(from).map(Unambiguous)
    }
}

#[derive(Clone, Copy)]
struct Tree<'a> {
    left: &'a Cell<u32>,
}

impl Tree<'_> {
    fn count<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(self)
            }
            None => Err(E::custom(format!("more than {MOST_VALUES} values"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self.count()?)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format!("the key {name:?} stands twice")));
            }
            let value = from.next_value_seed(self)?;
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}
