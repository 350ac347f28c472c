//! What things are: plain data and arithmetic. No I/O, no async, nothing of ours imported.

pub mod api_version;
pub mod binding;
pub mod capacity;
pub mod catalog;
pub mod credentials;
pub mod gate;
pub mod grants;
pub mod ids;
pub mod instance;
pub mod last_operation;
pub mod names;
pub mod parameters;
pub mod privileges;
pub mod quota;
pub mod reconcile;
pub mod tablespace;
pub mod usage;

/// Bytes in a megabyte, everywhere in this program (2^20).
pub const MB: u64 = 1 << 20;

/// Bytes as megabytes rounded to two decimals, for people.
pub fn to_mb(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people: two decimals of megabytes")]
    let mb = bytes as f64 / MB as f64;
    (mb * 100.0).round() / 100.0
}

/// Megabytes (fractions allowed, never negative) as bytes.
pub fn mb_to_bytes(mb: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "settings are checked to be finite and not negative; `as` saturates"
    )]
    let bytes = (mb * MB as f64).round() as u64;
    bytes
}
