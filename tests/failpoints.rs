//! The points at which the tests of crashes kill the program are in the program only where the feature `failpoints` is on.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[test]
fn a_normal_build_cannot_be_told_to_kill_itself() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_cf-mysql-broker")).unwrap();
    let variable = concat!("CF_MYSQL_BROKER_", "FAILPOINT").as_bytes();
    let is_there = program.windows(variable.len()).any(|bytes| bytes == variable);
    assert_eq!(is_there, cfg!(feature = "failpoints"), "the search finds it where it is, so it is not where it is not found");
}
