-- Who leads, which databases are over their quota, and what was taken from whom.
CREATE TABLE IF NOT EXISTS leader (
  id TINYINT NOT NULL PRIMARY KEY,
  holder VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
  epoch BIGINT UNSIGNED NOT NULL,
  until DATETIME(6) NOT NULL
) ENGINE=InnoDB;
INSERT IGNORE INTO leader (id, holder, epoch, until) VALUES (1, '', 0, '1970-01-01 00:00:01');

-- watermarks: per node, the highest connection id at the time of the REVOKE (JSON object; empty: not revoked yet).
CREATE TABLE IF NOT EXISTS quota_violations (
  db_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  watermarks TEXT CHARACTER SET ascii NOT NULL,
  since DATETIME(6) NOT NULL
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS quota_revocations (
  db_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  pattern VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  username VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  host VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  privileges VARCHAR(255) CHARACTER SET ascii NOT NULL,
  PRIMARY KEY (db_name, pattern, username, host)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
