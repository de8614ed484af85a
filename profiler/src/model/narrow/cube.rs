//! Conjunctions of masked comparisons, and how sets of arguments are written as such.
//!
//! A seccomp file has no "not": what is left when some values are taken away is a list of comparisons, each of which fixes the
//! leading bits up to the one in which it differs from the value. Comparisons by order would be shorter, but compare 64 bits,
//! while the kernel takes 32 of them: `0x1_0000_5412` would go round a rule on `0x5412`.

use crate::model::arguments::Masked;

/// The conditions of one rule: all hold. By index, each once.
pub type Cube = Vec<Masked>;

/// More are not taken apart: combinations of a recording need some dozens, a hostile profile could ask for any number.
const MOST: usize = 2048;

/// Nor is more work done for it: this many times one cube is taken from another.
const MOST_STEPS: usize = 1 << 20;

/// All bits of a 32-bit argument.
pub(super) const INT: u64 = 0xffff_ffff;

/// The 32-bit argument `index` with any value but these: no two of the answer hold at once.
#[must_use]
pub fn all_but(index: u8, values: &[u64]) -> Vec<Cube> {
    let value = |value: &u64| vec![Masked { index, mask: INT, value: value & INT }];
    values.iter().map(value).fold(vec![Vec::new()], |left, value| minus_each(&left, &value))
}

/// All arguments that are in none of `cubes`, as at most `most` cubes; `None` when they would be more.
#[must_use]
pub fn rest(cubes: &[Cube], most: usize) -> Option<Vec<Cube>> {
    let mut left = vec![Cube::new()];
    for (steps, cube) in cubes.iter().enumerate() {
        left = minus_each(&left, cube);
        if left.len() > MOST || steps > MOST {
            return None;
        }
    }
    (left.len() <= most).then_some(left)
}

/// The same set of arguments, as cubes of which no two hold at once, unless they would be more than [`MOST`], or that
/// takes more than [`MOST_STEPS`]. Those that need fewest bits stay as they are.
#[must_use]
pub fn disjoint(mut cubes: Vec<Cube>) -> Vec<Cube> {
    cubes.sort_by_key(|cube| (bits(cube), cube.clone()));
    cubes.dedup();
    let mut taken: Vec<Cube> = Vec::new();
    let mut steps = 0;
    for cube in &cubes {
        let mut left = vec![cube.clone()];
        for known in &taken {
            steps += left.len();
            left = minus_each(&left, known);
            if left.len() > MOST || steps > MOST_STEPS {
                return cubes;
            }
        }
        taken.extend(left);
        if taken.len() > MOST {
            return cubes;
        }
    }
    taken.sort();
    taken
}

fn bits(cube: &Cube) -> u32 {
    cube.iter().map(|condition| condition.mask.count_ones()).sum()
}

/// What is in one of `all` and not in `cube`.
pub(super) fn minus_each(all: &[Cube], cube: &Cube) -> Vec<Cube> {
    all.iter().flat_map(|one| minus(one, cube)).collect()
}

/// What is in `from` and not in `cube`: a cube for each bit that only the latter fixes, the most significant first.
fn minus(from: &Cube, cube: &Cube) -> Vec<Cube> {
    if apart(from, cube) {
        return vec![from.clone()];
    }
    let mut left = Vec::new();
    let mut within = from.clone();
    for condition in cube {
        let fixed = within.iter().find(|known| known.index == condition.index);
        let free = condition.mask & !fixed.map_or(0, |known| known.mask);
        for bit in (0..u64::BITS).rev().map(|bit| 1 << bit).filter(|bit| free & bit != 0) {
            let value = condition.value & bit;
            left.push(with(&within, condition.index, bit, value ^ bit));
            within = with(&within, condition.index, bit, value);
        }
    }
    left
}

/// `cube`, with one bit more.
fn with(cube: &Cube, index: u8, bit: u64, value: u64) -> Cube {
    let mut cube = cube.clone();
    match cube.iter_mut().find(|known| known.index == index) {
        Some(known) => {
            known.mask |= bit;
            known.value |= value;
        }
        None => cube.push(Masked { index, mask: bit, value }),
    }
    cube.sort_unstable();
    cube
}

/// Whether no arguments are in both.
fn apart(a: &Cube, b: &Cube) -> bool {
    a.iter()
        .any(|x| b.iter().any(|y| x.index == y.index && (x.value ^ y.value) & x.mask & y.mask != 0))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn count(cubes: &[Cube], registers: &[u64; 6]) -> usize {
        let holds = |cube: &&Cube| cube.iter().all(|condition| condition.holds(registers));
        cubes.iter().filter(holds).count()
    }

    fn at(index: u8, value: u64) -> [u64; 6] {
        let mut registers = [7; 6];
        registers[usize::from(index)] = value;
        registers
    }

    #[test]
    fn two_requests_of_terminals_take_34_rules() {
        assert_eq!(all_but(1, &[0x5412, 0x541c]).len(), 34);
        assert_eq!(all_but(1, &[]), vec![Cube::new()]);
        let two = |value| vec![Masked { index: 1, mask: INT, value }];
        assert_eq!(rest(&all_but(1, &[0x5412, 0x541c]), 2), Some([0x5412, 0x541c].map(two).into()));
        assert_eq!(rest(&all_but(1, &[0x5412, 0x541c]), 1), None);
    }

    fn cube() -> impl Strategy<Value = Cube> {
        let masks = select(vec![0xffff_ffff, 0x7e02_0000, 0xff, 0x0f, 0x8000_0001]);
        vec((0..3_u8, masks, 0..20_u64), 0..3).prop_map(|conditions| {
            let mut cube = Cube::new();
            for (index, mask, value) in conditions {
                if !cube.iter().any(|known| known.index == index) {
                    cube.push(Masked { index, mask, value: value & mask });
                }
            }
            cube.sort_unstable();
            cube
        })
    }

    proptest! {
        #[test]
        fn all_but_is_everything_else_once(
            values in vec(prop_oneof![any::<u64>(), 0x5400..0x5430_u64], 0..5),
            near in 0_u64..4, high in any::<u64>(), any in any::<u64>(),
        ) {
            let cubes = all_but(1, &values);
            for value in values.iter().flat_map(|value| [value ^ near, *value, any]) {
                let value = value & INT | high << 32;
                let refused = values.iter().any(|known| known & INT == value & INT);
                prop_assert_eq!(count(&cubes, &at(1, value)), usize::from(!refused), "{:#x}", value);
            }
        }

        #[test]
        fn disjoint_is_the_same_set(cubes in vec(cube(), 0..5), tried in vec(0..24_u64, 3)) {
            let apart = disjoint(cubes.clone());
            let mut registers = [0; 6];
            registers[..3].copy_from_slice(&tried);
            let holds = count(&cubes, &registers) > 0;
            prop_assert_eq!(count(&apart, &registers), usize::from(holds));
        }
    }
}
