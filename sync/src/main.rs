//! spsync
fn main() {}
