//! Real processes, real Redis: does it hold for real?
