-- Who changed what, and how it ended. Rows are only added; old ones go after audit.retention_days.
CREATE TABLE IF NOT EXISTS audit_trail (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  at DATETIME(6) NOT NULL,
  verb VARCHAR(16) CHARACTER SET ascii NOT NULL,
  instance_guid VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
  binding_guid VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
  status SMALLINT UNSIGNED NOT NULL,
  outcome VARCHAR(64) CHARACTER SET utf8mb4 NOT NULL,
  platform VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
  identity TEXT CHARACTER SET utf8mb4 NOT NULL,
  request_identity VARCHAR(256) CHARACTER SET utf8mb4 NOT NULL,
  KEY index_audit_trail_on_at (at),
  KEY index_audit_trail_on_instance (instance_guid(64))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
