//! A request gets the same answer whatever else is in the batch.
