//! Exit codes, beside 0 and 1.

/// A dead letter remains, was gone before, or there is none.
pub(super) const REMAINS: u8 = 3;
