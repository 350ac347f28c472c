//! What to type next, with everything filled in.

use super::Running;
use super::state::{ADMIN, PLANS, SERVICE, SERVICE_ID};

pub(super) fn print(running: &Running) {
    let Running { url, brokers, server, server_name, state } = running;
    let (password, root) = (state.admin_password(), state.root_password());
    let (plan, plan_id, _) = PLANS[0];
    let (host, port) = (&server.host, server.port);
    println!(
        r#"
Ready: {count} brokers behind {url}, the quota enforcer beside them, {server_name} on {host}:{port}.

# the catalog
curl -su {ADMIN}:{password} -H 'X-Broker-API-Version: 2.17' {url}/v2/catalog

# a database of your own, and credentials for it
curl -su {ADMIN}:{password} -H 'X-Broker-API-Version: 2.17' -H 'Content-Type: application/json' \
  -X PUT {url}/v2/service_instances/my-db \
  -d '{{"service_id":"{SERVICE_ID}","plan_id":"{plan_id}","organization_guid":"my-org","space_guid":"my-space"}}'
curl -su {ADMIN}:{password} -H 'X-Broker-API-Version: 2.17' -H 'Content-Type: application/json' \
  -X PUT {url}/v2/service_instances/my-db/service_bindings/my-app \
  -d '{{"service_id":"{SERVICE_ID}","plan_id":"{plan_id}"}}'

# the server as root
MYSQL_PWD={root} mysql -h {host} -P {port} -u root

# the same for a Cloud Foundry that reaches this machine
cf create-service-broker dev {ADMIN} {password} {url}
cf enable-service-access {SERVICE}
cf create-service {SERVICE} {plan} my-db

# away with it
curl -su {ADMIN}:{password} -H 'X-Broker-API-Version: 2.17' \
  -X DELETE '{url}/v2/service_instances/my-db?service_id={SERVICE_ID}&plan_id={plan_id}'

Health {url}/ready, metrics {url}/metrics. Ctrl-C ends everything."#,
        count = brokers.len(),
    );
}
