//! How is a JSON document changed so that it stays one, and comes by what the readers look for?

use serde_json::{Map, Number, Value};

/// A changed document of at most `max` bytes; `None` where the bytes themselves had better be changed.
pub fn mutated(data: &[u8], max: usize, seed: u32) -> Option<Vec<u8>> {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    if dice.below(8) == 0 {
        return None;
    }
    let mut document: Value = serde_json::from_slice(data).ok()?;
    for _ in 0..=dice.below(4) {
        change(&mut document, &mut dice);
    }
    let text = serde_json::to_vec(&document).ok()?;
    (text.len() <= max).then_some(text)
}

/// Texts and numbers at which something begins or ends.
const TEXTS: [&str; 28] = [
    "",
    "/",
    "..",
    "/proc",
    "/proc/self",
    "/proc/1/ns/net",
    "/dev/null",
    "a\0b",
    "rbind",
    "ro",
    "idmap",
    "uidmap=0:1:2",
    "CAP_SYS_ADMIN",
    "CAP_NOT_THERE",
    "SCMP_ACT_ERRNO",
    "SCMP_CMP_EQ",
    "RLIMIT_NOFILE",
    "user",
    "network",
    "time",
    "0-3,7",
    "65536-4294967295",
    "max",
    "-1",
    "system.slice:cri:x",
    "SCHED_DEADLINE",
    "tmpcopyup",
    "é\u{202e}",
];
const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    5,
    64,
    255,
    4095,
    4096,
    65_535,
    65_536,
    2_147_483_647,
    2_147_483_648,
    4_294_967_295,
    i64::MAX,
    i64::MIN,
];

fn change(document: &mut Value, dice: &mut Dice) {
    let count = size(document);
    let from = nth(document, &mut dice.below(count)).cloned();
    let Some(target) = nth(document, &mut dice.below(count)) else {
        return;
    };
    match (dice.below(8), target) {
        (0, target) => *target = Value::Null,
        (1 | 2, target) => {
            if let Some(from) = from {
                *target = from;
            }
        }
        (3, Value::Array(items)) if !items.is_empty() => {
            let at = dice.below(items.len());
            items.remove(at);
        }
        (4 | 5, Value::Array(items)) => {
            let again = items.get(dice.below(items.len().max(1))).cloned();
            items.extend(from.or(again));
        }
        (3 | 4, Value::Object(fields)) => {
            if let Some(key) = fields.keys().nth(dice.below(fields.len().max(1))).cloned() {
                fields.remove(&key);
            }
        }
        (5, Value::Object(fields)) => rename(fields, from, dice),
        (_, Value::String(text)) => *text = other_text(text, dice),
        (_, Value::Number(number)) => *number = other_number(number, dice),
        (_, Value::Bool(flag)) => *flag = !*flag,
        (_, target) => {
            *target = match dice.below(3) {
                0 => Value::from(TEXTS[dice.below(TEXTS.len())]),
                1 => Value::from(NUMBERS[dice.below(NUMBERS.len())]),
                _ => Value::Object(Map::new()),
            }
        }
    }
}

fn rename(fields: &mut Map<String, Value>, from: Option<Value>, dice: &mut Dice) {
    let key = TEXTS[dice.below(TEXTS.len())].to_owned();
    fields.insert(key, from.unwrap_or_default());
}

fn other_text(text: &str, dice: &mut Dice) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = dice.below(letters.len() + 1);
    let (head, tail): (String, String) = (
        letters[..at].iter().collect(),
        letters[at..].iter().collect(),
    );
    match dice.below(5) {
        0 => TEXTS[dice.below(TEXTS.len())].to_owned(),
        1 => head,
        2 => tail,
        3 => format!("{head}{}{tail}", TEXTS[dice.below(TEXTS.len())]),
        _ => format!("{text}{text}"),
    }
}

fn other_number(number: &Number, dice: &mut Dice) -> Number {
    let near = number.as_i64().unwrap_or_default();
    match dice.below(4) {
        0 => near.wrapping_add(1).into(),
        1 => near.wrapping_sub(1).into(),
        2 => u64::MAX.into(),
        _ => NUMBERS[dice.below(NUMBERS.len())].into(),
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum::<usize>(),
        _ => 0,
    }
}

/// The value that comes as number `left` when they are counted from the outside in.
fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(fields) => fields.values_mut().find_map(|item| nth(item, left)),
        _ => None,
    }
}

/// Numbers that a seed decides: a fuzzer must be able to do the same again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        let drawn = usize::try_from(drawn).unwrap_or_default();
        drawn.checked_rem(limit).unwrap_or_default()
    }
}
