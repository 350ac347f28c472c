//! How full databases are, as metrics: bounded, however many are sold.

/// How many of the fullest are named.
const NAMED: usize = 20;
/// Upper ends of the parts of the quota by which all are counted.
const STEPS: &[(f64, &str)] =
    &[(0.25, "0.25"), (0.5, "0.5"), (0.75, "0.75"), (0.8, "0.8"), (0.9, "0.9"), (1.0, "1"), (f64::INFINITY, "+Inf")];

/// Publishes `(database, used bytes, quota bytes)`. What is not suspect is known by the size of its files, which is never
/// less than what it uses.
pub(super) fn publish<'a>(databases: impl Iterator<Item = (&'a str, u64, u64)>) {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let mut ratios: Vec<(f64, &str)> = databases.map(|(database, used, quota)| (used as f64 / quota.max(1) as f64, database)).collect();
    for (end, label) in STEPS {
        let count = ratios.iter().filter(|(ratio, _)| ratio <= end).count();
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("cf_mysql_instances_by_usage_ratio", "le" => *label).set(count as f64);
    }
    ratios.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    for (ratio, database) in ratios.into_iter().take(NAMED) {
        metrics::gauge!("cf_mysql_instance_usage_ratio", "database" => database.to_owned()).set(ratio);
    }
}
