-- When a DELETE of an id was last answered (binding_guid '': of the instance). What was asked for before that is not made after it.
-- Kept for two days.
SET @exact = IF(VERSION() LIKE '%MariaDB%', 'utf8mb4_nopad_bin', 'utf8mb4_0900_bin');
SET @ddl = CONCAT('CREATE TABLE IF NOT EXISTS deletions (
  instance_guid VARCHAR(255) CHARACTER SET utf8mb4 COLLATE ', @exact, ' NOT NULL,
  binding_guid VARCHAR(255) CHARACTER SET utf8mb4 COLLATE ', @exact, ' NOT NULL,
  answered_at DATETIME(6) NOT NULL,
  PRIMARY KEY (instance_guid, binding_guid),
  KEY index_deletions_on_answered_at (answered_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4');
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;
