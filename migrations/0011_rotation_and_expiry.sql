-- Rotation and expiry of bindings.
SET @ddl = IF(
  EXISTS (SELECT 1 FROM information_schema.COLUMNS
           WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'service_bindings' AND COLUMN_NAME = 'expires_at'),
  'DO 0',
  'ALTER TABLE service_bindings
     ADD COLUMN predecessor_guid VARCHAR(255) CHARACTER SET utf8mb4 NULL,
     ADD COLUMN expires_at DATETIME(6) NULL,
     ADD COLUMN renew_before DATETIME(6) NULL,
     ADD COLUMN is_expired TINYINT(1) NOT NULL DEFAULT 0,
     ADD KEY index_service_bindings_on_expiry (is_expired, expires_at)');
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;
