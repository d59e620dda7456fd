//! `update`: limits from a document or from options.

use rsrun_core::Result;
use serde_json::{Map, Value, json};

use super::container;
use crate::args::{Global, Update};

/// `update`
pub fn run(global: &Global, update: &Update) -> Result<()> {
    let container = container(global, &update.id)?;
    let document = match &update.resources {
        Some(path) => super::document("--resources", path)?,
        None => from_options(update).to_string(),
    };
    container.update(&rsrun_core::bundle::parse_resources(document.as_bytes())?.document)
}

fn from_options(update: &Update) -> Value {
    let mut document = Map::new();
    let mut section = |name: &str, fields: Vec<(&str, Option<Value>)>| {
        let fields: Map<_, _> = fields
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect();
        if !fields.is_empty() {
            document.insert(name.to_owned(), Value::Object(fields));
        }
    };
    section(
        "cpu",
        vec![
            ("shares", update.cpu_share.map(Value::from)),
            ("quota", update.cpu_quota.map(Value::from)),
            ("burst", update.cpu_burst.map(Value::from)),
            ("period", update.cpu_period.map(Value::from)),
            ("idle", update.cpu_idle.map(Value::from)),
            ("cpus", update.cpuset_cpus.clone().map(Value::from)),
            ("mems", update.cpuset_mems.clone().map(Value::from)),
        ],
    );
    section(
        "memory",
        vec![
            ("limit", update.memory.map(Value::from)),
            ("reservation", update.memory_reservation.map(Value::from)),
            ("swap", update.memory_swap.map(Value::from)),
        ],
    );
    section(
        "blockIO",
        vec![("weight", update.blkio_weight.map(Value::from))],
    );
    section(
        "pids",
        vec![("limit", update.pids_limit.map(|limit| json!(limit)))],
    );
    Value::Object(document)
}
