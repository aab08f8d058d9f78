//! The coprocessor: its memory, its resource table, its vrings and its life.
//!
//! This room knows nothing of virtual machines; the bridge joins the two.

pub mod resource_table;
