//! The generated wire types of package `ccexecutor.v1`, and their descriptors. Nothing here is written by hand.

#![allow(clippy::all, clippy::allow_attributes, reason = "generated code")]

tonic::include_proto!("ccexecutor.v1");

/// The encoded descriptors of the package and all it imports, for reflection and canonical JSON.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
