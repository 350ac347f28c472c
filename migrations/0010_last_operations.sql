-- How the last operation on an id ended, where its row cannot say so: it is gone, or something failed. Kept for two days.
SET @exact = IF(VERSION() LIKE '%MariaDB%', 'utf8mb4_nopad_bin', 'utf8mb4_0900_bin');
SET @ddl = CONCAT('CREATE TABLE IF NOT EXISTS last_operations (
  instance_guid VARCHAR(255) CHARACTER SET utf8mb4 COLLATE ', @exact, ' NOT NULL,
  binding_guid VARCHAR(255) CHARACTER SET utf8mb4 COLLATE ', @exact, ' NOT NULL,
  kind VARCHAR(16) CHARACTER SET ascii NOT NULL,
  succeeded TINYINT(1) NOT NULL,
  description VARCHAR(1024) NOT NULL,
  update_repeatable TINYINT(1) NOT NULL,
  ended_at DATETIME(6) NOT NULL,
  PRIMARY KEY (instance_guid, binding_guid),
  KEY index_last_operations_on_ended_at (ended_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4');
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;
