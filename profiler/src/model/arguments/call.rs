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

/// All bits of a 32-bit argument.
const INT: u64 = 0xffff_ffff;

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
    for other in conditions {
        let given = match other.op {
            Op::Eq => Some(other.value),
            Op::MaskedEq if other.value & INT == INT => Some(other.value_two),
            _ => None,
        };
        if let Some(place) = known.get_mut(usize::from(other.index)) {
            *place = given.or(*place);
        }
    }
    let names = abi.map_or_else(|| names::of(call), |abi| names::on(abi, call)).unwrap_or_default();
    let abi = abi.unwrap_or(Abi::X86_64);
    conditions.iter().map(|one| condition((abi, call), names, one, &known)).collect()
}

fn condition(
    (abi, call): (Abi, &str),
    names: &[&str],
    one: &Condition,
    known: &[Option<u64>; 6],
) -> String {
    let index = usize::from(one.index);
    let name = names.get(index).map_or_else(|| format!("arg{index}"), |name| (*name).to_owned());
    let is_int = matches!(names::kind(abi, call, index), Some(Kind::Int | Kind::Uint));
    // the kernel reads no more of it
    let is_whole = one.value == u64::MAX || (is_int && one.value & INT == INT);
    let meaning = match meaning::in_call(call, index, known) {
        _ if names.get(index).is_none() => Meaning::Bits,
        Meaning::Plain if one.op == Op::MaskedEq && !is_whole => Meaning::Bits,
        // names have no order
        _ if matches!(one.op, Op::Lt | Op::Le | Op::Ge | Op::Gt) => Meaning::Plain,
        meaning => meaning,
    };
    let (sign, value) = match one.op {
        Op::MaskedEq if is_whole => ("==", one.value_two),
        Op::MaskedEq => {
            let value = match one.value_two {
                0 => "0".to_owned(),
                value => show(meaning, value),
            };
            return format!("{name} & {} == {value}", mask(meaning, one.value));
        }
        Op::Ne => ("!=", one.value),
        Op::Lt => ("<", one.value),
        Op::Le => ("<=", one.value),
        Op::Eq => ("==", one.value),
        Op::Ge => (">=", one.value),
        Op::Gt => (">", one.value),
    };
    format!("{name} {sign} {}", show(meaning, value))
}

/// A mask by the names of its bits, or of those that it leaves out where these are fewer: `~(SOCK_NONBLOCK|SOCK_CLOEXEC)`.
fn mask(meaning: Meaning, mask: u64) -> String {
    let left_out = !mask & INT;
    if mask <= INT && left_out.count_ones() < mask.count_ones() {
        let names = show(meaning, left_out);
        if !names.split('|').any(|part| part.starts_with(|c: char| c.is_ascii_digit())) {
            return format!("~({names})");
        }
    }
    let names = show(meaning, mask);
    if names.contains('|') { format!("({names})") } else { names }
}

/// What the kernel reads of a register, without a sign.
fn as_read(abi: Abi, call: &str, index: usize, register: u64) -> u64 {
    match names::kind(abi, call, index) {
        Some(Kind::Int | Kind::Uint) if is_extended(register) => register & INT,
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
