//! Which worker owns which drain.
