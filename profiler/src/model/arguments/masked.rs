//! One condition, or one value that was seen: some bits of a register.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The bits of an argument register under a mask. As a condition libseccomp's `SCMP_CMP_MASKED_EQ`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Masked {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// The bits that count.
    pub mask: u64,
    /// What they are; no bit outside of the mask is set.
    pub value: u64,
}

impl Masked {
    /// Whether a call with these registers meets it.
    #[must_use]
    pub fn holds(&self, registers: &[u64; 6]) -> bool {
        let register = registers.get(usize::from(self.index));
        register.is_some_and(|register| register & self.mask == self.value)
    }
}
