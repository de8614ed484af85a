//! Who is suspended in which of two programs that do the same, on one processor. A program is not run where it is suspended, so what
//! somebody does there while others are suspended in both is seen by neither.

/// Of one processor and one pair of programs. All zeros is where nobody is in either.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspended {
    /// Who is in the first and in the second: ids of threads, 0 for nobody.
    pub by: [u32; 2],
    /// 1 if others were in both when the thread that runs began to.
    pub was_blind: u32,
    /// Zero.
    pub reserved: u32,
}

/// Whose calls neither program may have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Those of the thread that ran until now.
    pub previous: bool,
    /// Those of the thread that runs from now on.
    pub next: bool,
}

impl Suspended {
    /// The processor goes on with another thread, and that is which programs are active on it: they run, or are suspended.
    /// A thread that is in one of the two itself is seen by the other, and by this one when it is out of it.
    #[inline(always)]
    pub fn switch(&mut self, active: [bool; 2], previous: u32, next: u32) -> Unseen {
        let was_blind = self.was_blind != 0;
        let [first, second] = self.by;
        let first = who(first, active[0], previous);
        let second = who(second, active[1], previous);
        let is_blind = first != 0 && second != 0 && first != next && second != next;
        *self = Self { by: [first, second], was_blind: is_blind as u32, reserved: 0 };
        Unseen { previous: was_blind, next: is_blind }
    }
}

/// Who is in a program after `previous` ran: nobody else could enter or leave it meanwhile.
#[inline(always)]
const fn who(before: u32, is_active: bool, previous: u32) -> u32 {
    match (is_active, before) {
        (false, _) => 0,
        (true, 0) => previous,
        (true, _) => before,
    }
}
