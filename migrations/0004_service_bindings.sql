-- One row per binding. The password is derived (bindings.secrets, salt, username): it stands nowhere.
SET @exact = IF(VERSION() LIKE '%MariaDB%', 'utf8mb4_nopad_bin', 'utf8mb4_0900_bin');
SET @ddl = CONCAT('CREATE TABLE IF NOT EXISTS service_bindings (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  service_instance_id INT NOT NULL,
  guid VARCHAR(255) CHARACTER SET utf8mb4 COLLATE ', @exact, ' NOT NULL,
  service_guid VARCHAR(255) NOT NULL,
  plan_guid VARCHAR(255) NOT NULL,
  app_guid VARCHAR(255) NULL,
  parameters MEDIUMTEXT NULL,
  read_only TINYINT(1) NOT NULL DEFAULT 0,
  username VARCHAR(80) CHARACTER SET utf8mb4 COLLATE ', @exact, ' NOT NULL,
  host VARCHAR(255) NOT NULL,
  secret_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE ', @exact, ' NOT NULL,
  salt CHAR(32) CHARACTER SET ascii NOT NULL,
  state VARCHAR(16) CHARACTER SET ascii NOT NULL,
  op_id CHAR(32) CHARACTER SET ascii NULL,
  lease_until DATETIME(6) NULL,
  created_at DATETIME(6) NOT NULL,
  updated_at DATETIME(6) NOT NULL,
  UNIQUE KEY unique_service_bindings_on_instance_and_guid (service_instance_id, guid),
  UNIQUE KEY unique_service_bindings_on_username (username),
  KEY index_service_bindings_on_lease_until (lease_until)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4');
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;
