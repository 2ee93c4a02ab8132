//! Bounds, and faults.
