//! A call with its arguments, in words: `socket(family: AF_ALG, type: SOCK_SEQPACKET, protocol: 0)`.

use crate::model::{
    arch::Abi,
    arguments::{
        constants::{Meaning, show},
        meaning,
        names::{self, Kind},
    },
    effective::Condition,
    seccomp::Op,
};

/// The arguments of a call, from its registers: as many as it has, each with its name, pointers in hexadecimal digits.
/// Of a call without a known prototype all that are given, without names.
///
/// `registers` may hold fewer than the call has arguments.
#[must_use]
pub fn arguments(abi: Abi, call: &str, registers: &[u64]) -> String {
    let Some(names) = names::on(abi, call) else {
        let values = registers.iter().map(|value| show(Meaning::Bits, *value));
        return values.collect::<Vec<_>>().join(", ");
    };
    let mut known = [None; 6];
    for (index, value) in registers.iter().take(6).enumerate() {
        known[index] = Some(as_read(abi, call, index, *value));
    }
    let all = names.iter().zip(registers).enumerate().map(|(index, (name, register))| {
        let meaning = meaning::in_call(call, index, &known);
        format!("{name}: {}", value(abi, call, (index, name), *register, meaning))
    });
    all.collect::<Vec<_>>().join(", ")
}

/// [`arguments`] behind the call's name, in parentheses.
#[must_use]
pub fn call(abi: Abi, name: &str, registers: &[u64]) -> String {
    format!("{name}({})", arguments(abi, name, registers))
}

/// The conditions of a rule for `call`: `clone_flags & (CLONE_NEWNS|CLONE_NEWUSER) == 0`, `family == AF_INET`. Of an
/// argument that has no known name the number is told: `arg0 == 1`.
///
/// Without an ABI, as in a file, the names are those of the 64-bit ones.
#[must_use]
pub fn conditions(abi: Option<Abi>, call: &str, conditions: &[Condition]) -> Vec<String> {
    let mut known = [None; 6];
    for other in conditions.iter().filter(|other| other.op == Op::Eq) {
        if let Some(place) = known.get_mut(usize::from(other.index)) {
            *place = Some(other.value);
        }
    }
    let names = abi.map_or_else(|| names::of(call), |abi| names::on(abi, call)).unwrap_or_default();
    conditions.iter().map(|one| condition(call, names, one, &known)).collect()
}

fn condition(call: &str, names: &[&str], one: &Condition, known: &[Option<u64>; 6]) -> String {
    let index = usize::from(one.index);
    let name = names.get(index).map_or_else(|| format!("arg{index}"), |name| (*name).to_owned());
    let meaning = match meaning::in_call(call, index, known) {
        _ if names.get(index).is_none() => Meaning::Bits,
        Meaning::Plain if one.op == Op::MaskedEq => Meaning::Bits,
        // names have no order
        _ if matches!(one.op, Op::Lt | Op::Le | Op::Ge | Op::Gt) => Meaning::Plain,
        meaning => meaning,
    };
    let value = |value: u64| show(meaning, value);
    let sign = match one.op {
        Op::MaskedEq => {
            let mask = value(one.value);
            let mask = if mask.contains('|') { format!("({mask})") } else { mask };
            return format!("{name} & {mask} == {}", value(one.value_two));
        }
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Eq => "==",
        Op::Ge => ">=",
        Op::Gt => ">",
    };
    format!("{name} {sign} {}", value(one.value))
}

/// What the kernel reads of a register, without a sign.
fn as_read(abi: Abi, call: &str, index: usize, register: u64) -> u64 {
    match names::kind(abi, call, index) {
        Some(Kind::Int | Kind::Uint) if is_extended(register) => register & 0xffff_ffff,
        _ => register,
    }
}

/// Whether the high half of a register only repeats the sign of the low one, or is empty.
const fn is_extended(register: u64) -> bool {
    let high = register >> 32;
    high == 0 || (high == 0xffff_ffff && register & 0x8000_0000 != 0)
}

fn value(
    abi: Abi,
    call: &str,
    (index, name): (usize, &str),
    register: u64,
    meaning: Meaning,
) -> String {
    let read = as_read(abi, call, index, register);
    let signed = match names::kind(abi, call, index) {
        Some(Kind::Int) if is_extended(register) => i64::from((read as u32).cast_signed()),
        Some(Kind::Long) => register.cast_signed(),
        // some calls take a descriptor for an unsigned long
        Some(Kind::Ulong) if name == "fd" => register.cast_signed(),
        _ => 0,
    };
    let named = show(meaning, read);
    let is_number = named.starts_with(|c: char| c.is_ascii_digit());
    if signed < 0 && is_number && matches!(meaning, Meaning::Plain | Meaning::Directory) {
        return signed.to_string();
    }
    named
}
