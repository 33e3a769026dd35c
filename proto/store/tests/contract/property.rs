//! One random course of events for all.
