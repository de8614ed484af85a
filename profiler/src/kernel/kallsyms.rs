//! Names for kernel addresses, from `/proc/kallsyms`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::BufRead,
};

/// The function that contains each of the given return addresses. Lines come in any order; addresses
/// that the kernel hides are all zero, and then nothing is found.
pub fn names(lines: impl BufRead, addresses: &BTreeSet<u64>) -> HashMap<u64, String> {
    // a call can be a function's last instruction, so the address belongs to what is before it
    let mut nearest: BTreeMap<u64, (u64, String)> =
        addresses.iter().map(|address| (*address, (0, String::new()))).collect();
    for line in lines.lines().map_while(Result::ok) {
        // only the first address above a function is told of it; the others follow below
        if let Some((start, name)) = function(&line)
            && let Some((_, found)) = nearest.range_mut(start + 1..).next()
            && start > found.0
        {
            found.0 = start;
            found.1.clear();
            found.1.push_str(name);
        }
    }
    let mut below = (0, String::new());
    let mut names = HashMap::new();
    for (address, found) in nearest {
        if found.0 > below.0 {
            below = found;
        }
        if below.0 != 0 {
            names.insert(address, below.1.clone());
        }
    }
    names
}

/// Start and name of a line that is a function's.
fn function(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_text = matches!(words.next()?, "t" | "T" | "w" | "W");
    (is_text && start != 0).then(|| words.next().map(|name| (start, name)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "00ff0010 T b\n00ff0000 t a\n00ff0020 d data\nff0030 T c [mod]\n";

    fn name(address: u64, lines: &str) -> Option<String> {
        names(lines.as_bytes(), &BTreeSet::from([0xff_0001, 0xff_0200, address])).remove(&address)
    }

    #[test]
    fn return_addresses_are_named_by_the_function_before_them() {
        assert_eq!(name(0xff_0000, LINES), None);
        assert_eq!(name(0xff_0010, LINES).as_deref(), Some("a"));
        assert_eq!(name(0xff_0011, LINES).as_deref(), Some("b"));
        assert_eq!(name(0xff_0100, LINES).as_deref(), Some("c"));
    }

    #[test]
    fn the_order_of_lines_does_not_matter() {
        let mut reversed: Vec<&str> = LINES.lines().collect();
        reversed.reverse();
        let reversed = reversed.join("\n");
        for address in [0xff_0001, 0xff_0010, 0xff_0011, 0xff_0030, 0xff_0031, 0xff_0100] {
            assert_eq!(name(address, LINES), name(address, &reversed), "{address:x}");
        }
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        assert_eq!(name(0xff_0100, "0000000000000000 T hidden\n"), None);
    }
}
