//! Sets of entries by their place in the list of candidates: a search compares thousands of them.

/// A set of small numbers. Two sets of one search have the same capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// The empty set, of numbers below `capacity`.
    pub(super) fn none(capacity: usize) -> Bits {
        Bits(vec![0; capacity.div_ceil(64)])
    }

    /// Adds a number.
    pub(super) fn insert(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub(super) fn is_subset(&self, of: &Bits) -> bool {
        self.0.iter().zip(&of.0).all(|(own, other)| own & !other == 0)
    }

    pub(super) fn is_disjoint(&self, from: &Bits) -> bool {
        self.0.iter().zip(&from.0).all(|(own, other)| own & other == 0)
    }

    /// This one and these.
    pub(super) fn with(&self, more: &[usize]) -> Bits {
        let mut all = self.clone();
        more.iter().for_each(|&number| all.insert(number));
        all
    }

    pub(super) fn union(&self, other: &Bits) -> Bits {
        Bits(self.0.iter().zip(&other.0).map(|(own, other)| own | other).collect())
    }

    pub(super) fn intersection(&self, other: &Bits) -> Bits {
        Bits(self.0.iter().zip(&other.0).map(|(own, other)| own & other).collect())
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|&number| self.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sets() {
        let some = Bits::none(130).with(&[0, 63, 64, 129]);
        assert_eq!(some.numbers().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert!(some.contains(64) && !some.contains(65) && !some.contains(1000));
        let fewer = Bits::none(130).with(&[63, 129]);
        assert!(fewer.is_subset(&some) && !some.is_subset(&fewer));
        assert_eq!(some.intersection(&fewer), fewer);
        assert_eq!(some.union(&fewer), some);
        assert!(!some.is_disjoint(&fewer) && fewer.is_disjoint(&Bits::none(130).with(&[0, 64])));
        assert!(Bits::none(130).is_empty() && !fewer.is_empty());
    }
}
