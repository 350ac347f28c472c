-- The one counter of what is reserved: every reservation and every release writes this row, so that a server serialises
-- them on its lock and a Galera cluster on its certification.
CREATE TABLE IF NOT EXISTS capacity (
  id TINYINT NOT NULL PRIMARY KEY,
  reserved_bytes BIGINT UNSIGNED NOT NULL
) ENGINE=InnoDB;
INSERT IGNORE INTO capacity (id, reserved_bytes) VALUES (1, 0);
