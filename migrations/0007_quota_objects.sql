-- Rights on single tables, columns and routines that were taken; those on a whole database are in quota_revocations.
-- kind: TABLE, PROCEDURE, FUNCTION, PACKAGE...; column_name is empty for rights on the whole object.
CREATE TABLE IF NOT EXISTS quota_object_revocations (
  db_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  object_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  column_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  username VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  host VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  privileges VARCHAR(255) CHARACTER SET ascii NOT NULL,
  PRIMARY KEY (db_name, kind, object_name, column_name, username, host)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Who has been warned: the highest threshold (per cent) that was reported and not left since.
CREATE TABLE IF NOT EXISTS quota_warnings (
  db_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  per_cent TINYINT UNSIGNED NOT NULL,
  since DATETIME(6) NOT NULL
) ENGINE=InnoDB;
