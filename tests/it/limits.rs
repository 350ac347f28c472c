use reqwest::Method;
use serde_json::json;

use crate::support::bed::ADMIN;
use crate::support::{Bed, BedOptions};

#[tokio::test]
async fn too_many_failed_logins_are_slowed_down_and_lock_nobody_out() {
    let bed =
        Bed::with(BedOptions { alone: true, settings: json!({"server": {"failed_logins_per_minute": 3}}), ..BedOptions::default() }).await;
    let osb = bed.osb();
    let wrong = || osb.bare(Method::GET, "/v2/catalog").basic_auth(ADMIN, Some("wrong")).header("X-Broker-API-Version", "2.17");
    for _ in 0..3 {
        osb.send(wrong()).await.expect(401);
    }
    let slowed = osb.send(wrong()).await;
    assert_eq!(slowed.headers["retry-after"], "60");
    slowed.expect(429);
    osb.get("/v2/catalog").await.expect(200);
}

#[tokio::test]
async fn more_than_the_broker_works_on_at_once_is_429() {
    let bed = Bed::with(BedOptions { alone: true, settings: json!({"server": {"max_operations": 1}}), ..BedOptions::default() }).await;
    let osb = bed.osb();
    let mut root = bed.hold_the_counter().await;
    let first = {
        let osb = osb.clone();
        tokio::spawn(async move { osb.provision("i1").await.status })
    };
    bed.reservation_waits().await;
    let refused = osb.provision("i2").await;
    assert_eq!(refused.headers["retry-after"], "2");
    assert!(refused.expect(429)["description"].is_string());
    osb.get("/v2/catalog").await.expect(200);
    sqlx::raw_sql("COMMIT").execute(&mut root).await.unwrap();
    assert_eq!(first.await.unwrap(), 201);
    osb.provision("i2").await.expect(201);
}
