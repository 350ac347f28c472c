-- Accounts whose binding is gone and who live on as the DEFINER of views, routines, triggers or events: locked, with a
-- password nobody knows.
CREATE TABLE IF NOT EXISTS retired_accounts (
  username VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  host VARCHAR(255) CHARACTER SET ascii NOT NULL,
  service_instance_id INT NOT NULL,
  retired_at DATETIME(6) NOT NULL,
  PRIMARY KEY (username, host),
  KEY index_retired_accounts_on_instance (service_instance_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
