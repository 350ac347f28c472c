use std::collections::HashMap;

use futures_util::future::join_all;

use crate::support::{Bed, BedOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_brokers_and_64_clients_sell_exactly_what_there_is() {
    let bed = Bed::with(BedOptions { brokers: 4, sellable_mb: 500, ..BedOptions::default() }).await;
    let clients = (0..64).map(|client| {
        let osb = bed.clients[client % 4].clone();
        tokio::spawn(async move {
            let mut statuses = Vec::new();
            for i in 0..3 {
                statuses.push(osb.provision(&format!("i-{client}-{i}")).await.status);
            }
            statuses
        })
    });
    let mut counts: HashMap<u16, usize> = HashMap::new();
    for statuses in join_all(clients).await {
        for status in statuses.unwrap() {
            *counts.entry(status).or_default() += 1;
        }
    }
    assert_eq!(counts, HashMap::from([(201, 100), (507, 92)]), "100 plans of 5 MB in 500 MB");
    assert_eq!(bed.reserved_mb().await, 500);
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances WHERE state = 'ready'").await, 100);
    assert_eq!(
        bed.number(&format!(
            "SELECT COUNT(*) FROM information_schema.SCHEMATA JOIN {}.service_instances ON SCHEMA_NAME = db_name",
            bed.database
        ))
        .await,
        100
    );

    let deletions = (0..64).map(|client| {
        let osb = bed.clients[(client + 1) % 4].clone();
        tokio::spawn(async move {
            for i in 0..3 {
                let status = osb.deprovision(&format!("i-{client}-{i}")).await.status;
                assert!([200, 410].contains(&status), "{status}");
            }
        })
    });
    for deletion in join_all(deletions).await {
        deletion.unwrap();
    }
    assert_eq!(bed.reserved_mb().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_at_two_brokers_at_once_is_one_database() {
    let bed = Bed::with(BedOptions { brokers: 2, ..BedOptions::default() }).await;
    for round in 0..10 {
        let id = format!("i{round}");
        let both = bed.clients.iter().flat_map(|osb| [osb, osb]).map(|osb| osb.provision(&id));
        let mut statuses: Vec<_> = join_all(both).await.into_iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 201]);
        let both = bed.clients.iter().flat_map(|osb| [osb, osb]).map(|osb| osb.bind(&id, "b1"));
        let answers = join_all(both).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        assert!(answers.iter().all(|answer| answer.body == answers[0].body), "one account, the same credentials");
    }
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances").await, 10);
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_bindings").await, 10);
    assert_eq!(bed.reserved_mb().await, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_and_delete_of_one_id_at_once_leave_all_or_nothing() {
    let bed = Bed::with(BedOptions { brokers: 2, ..BedOptions::default() }).await;
    for round in 0..10 {
        let id = format!("i{round}");
        let (created, deleted) = tokio::join!(bed.clients[0].provision(&id), bed.clients[1].deprovision(&id));
        assert!([201, 422].contains(&created.status), "{}", created.body);
        assert!([200, 410, 422].contains(&deleted.status), "{}", deleted.body);
        let rows = bed.number(&format!("SELECT COUNT(*) FROM service_instances WHERE guid = '{id}' AND state = 'ready'")).await;
        assert_eq!(rows, i64::from(created.status == 201 && deleted.status != 200));
    }
    let rows = bed.number("SELECT COUNT(*) FROM service_instances").await;
    let databases = bed.number("SELECT COUNT(*) FROM service_instances JOIN information_schema.SCHEMATA ON SCHEMA_NAME = db_name").await;
    assert_eq!(rows, databases);
    assert_eq!(bed.reserved_mb().await, rows * 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_deleted_while_its_bindings_are_ended_is_gone_when_it_says_so() {
    let bed = Bed::with(BedOptions { brokers: 2, ..BedOptions::default() }).await;
    for round in 0..5 {
        let id = format!("i{round}");
        bed.osb().provision(&id).await.expect(201);
        for binding in 0..4 {
            bed.osb().bind(&id, &format!("b{binding}")).await.expect(201);
        }
        let names: Vec<_> = (0..4).map(|binding| format!("b{binding}")).collect();
        let unbinding = join_all(names.iter().map(|name| bed.clients[1].unbind(&id, name)));
        let (unbound, deleted) = tokio::join!(unbinding, bed.clients[0].deprovision(&id));
        assert!(unbound.iter().all(|answer| [200, 410, 422].contains(&answer.status)), "{unbound:?}");
        match deleted.status {
            200 => bed.osb().get(&crate::support::osb::instance(&id)).await.expect(404),
            // refused before anything was done: it is all there
            422 => bed.osb().get(&crate::support::osb::instance(&id)).await.expect(200),
            other => panic!("{other}: {}", deleted.body),
        };
    }
}
