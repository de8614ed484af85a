//! Names for kernel addresses, from `/proc/kallsyms`.

/// Function addresses in ascending order, with their names.
#[derive(Debug, Default)]
pub struct Kallsyms {
    symbols: Vec<(u64, String)>,
}

impl Kallsyms {
    /// Parses the file's text. Addresses that the kernel hides (all zero) leave it empty.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut symbols: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                let is_text = matches!(words.next()?, "t" | "T" | "w" | "W");
                (is_text && address != 0).then(|| (address, words.next().unwrap_or("").to_owned()))
            })
            .collect();
        symbols.sort_unstable();
        Kallsyms { symbols }
    }

    /// Whether any address could be named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Where the functions of the given names lie.
    #[must_use]
    pub fn ranges(&self, names: &[&str]) -> Vec<std::ops::Range<u64>> {
        self.symbols
            .windows(2)
            .filter(|pair| names.contains(&pair[0].1.as_str()))
            .map(|pair| pair[0].0..pair[1].0)
            .collect()
    }

    /// The function that contains a return address.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<&str> {
        // a call can be a function's last instruction, so the address belongs to what is before it
        let address = address.checked_sub(1)?;
        let next = self.symbols.partition_point(|(start, _)| *start <= address);
        self.symbols.get(next.checked_sub(1)?).map(|(_, name)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_addresses_are_named_by_the_function_before_them() {
        let symbols =
            Kallsyms::parse("00ff0010 T b\n00ff0000 t a\n00ff0020 d data\nff0030 T c [mod]\n");
        assert_eq!(symbols.name(0xff_0000), None);
        assert_eq!(symbols.name(0xff_0010), Some("a"));
        assert_eq!(symbols.name(0xff_0011), Some("b"));
        assert_eq!(symbols.name(0xff_0100), Some("c"));
        assert_eq!(symbols.ranges(&["b"]), [0xff_0010..0xff_0030]);
        assert!(Kallsyms::parse("0000 T hidden\n").is_empty());
    }
}
